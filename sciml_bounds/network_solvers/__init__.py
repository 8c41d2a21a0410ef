"""Solvers of variational problems by two-layer networks: greedy, random-feature, Deep Ritz and unfolded networks."""

from sciml_bounds.network_solvers._deep_ritz import ritz_network
from sciml_bounds.network_solvers._greedy import greedy_network
from sciml_bounds.network_solvers._network_solution import NetworkSolution, NetworkStep
from sciml_bounds.network_solvers._optimal_sampling import OptimalSample, optimal_sample
from sciml_bounds.network_solvers._random_features import random_feature_network
from sciml_bounds.network_solvers._unfolded import unfolded_network

__all__ = [
    "NetworkSolution",
    "NetworkStep",
    "OptimalSample",
    "greedy_network",
    "optimal_sample",
    "random_feature_network",
    "ritz_network",
    "unfolded_network",
]
