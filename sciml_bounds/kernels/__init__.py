"""The few hot loops, one file per operation: plain torch (the reference), C++ (CPU) and triton (CUDA) side by side.

Axis letters: b batch, x y z lattice axes (lower dimensions are padded by 1 in front, so that the last axis is always
contiguous and long). Every array is contiguous; coefficient arrays may have a batch axis of 1, which serves all
samples.
"""

from sciml_bounds.kernels._backend import use_backend

__all__ = ["use_backend"]
