"""Barron functions: series and two-layer networks with known spectral norms, and error bounds that follow from them.

Two-layer networks approximate functions of bounded Barron norm with an error that does not depend on the dimension
(Barron, IEEE Trans. Inf. Theory 39 (1993) 930-945). Solutions of elliptic equations with such data have bounded Barron
norms too (Marwah, Lipton, Lu, Risteski, 2022).
"""

from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.barron._capacity import Capacity, capacity
from sciml_bounds.barron._norm_growth import (
    GradientIteration,
    NormGrowth,
    corrected_growth,
    linear_growth,
    published_growth,
    published_iteration,
    standard_iteration,
)
from sciml_bounds.barron._sampled_network import SampledNetwork, sample_network, width_for
from sciml_bounds.barron._solution_norms import SolutionNorms, solution_norms
from sciml_bounds.grid import Box

__all__ = [
    "BarronFunction",
    "BarronNetwork",
    "Box",
    "Capacity",
    "GradientIteration",
    "NormGrowth",
    "SampledNetwork",
    "SolutionNorms",
    "capacity",
    "corrected_growth",
    "linear_growth",
    "published_growth",
    "published_iteration",
    "sample_network",
    "solution_norms",
    "standard_iteration",
    "width_for",
]
