"""Optimisation constrained by an elliptic equation: distributed control and coefficient estimation."""

from sciml_bounds.control._coefficient_estimation import CoefficientEstimation
from sciml_bounds.control._distributed_control import DistributedControl

__all__ = [
    "CoefficientEstimation",
    "DistributedControl",
]
