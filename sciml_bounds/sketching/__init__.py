"""Randomised linear algebra: sketches, sketch-and-project, sketched least squares, sampled Hessians."""

from sciml_bounds.sketching._accelerated_kaczmarz import accelerated_kaczmarz
from sciml_bounds.sketching._least_squares import sketched_least_squares
from sciml_bounds.sketching._low_rank import randomised_eigenpairs
from sciml_bounds.sketching._sampled_hessians import SampledHessian, SketchedHessian
from sciml_bounds.sketching._sketch_and_project import expected_rate, sketch_and_project
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector
from sciml_bounds.sketching._sketches.row_block import RowBlock
from sciml_bounds.sketching._sketches.rows import Rows
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

__all__ = [
    "SRHT",
    "CountSketch",
    "GaussianBlock",
    "GaussianVector",
    "RowBlock",
    "Rows",
    "SampledHessian",
    "SketchedHessian",
    "SparseSign",
    "accelerated_kaczmarz",
    "expected_rate",
    "randomised_eigenpairs",
    "sketch_and_project",
    "sketched_least_squares",
]
