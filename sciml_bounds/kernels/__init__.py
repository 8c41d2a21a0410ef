"""Performance-critical loops, one file per operation, each in plain torch (the reference), C++ (CPU) and triton (CUDA).

Axis letters: b is the batch; x, y, z are the lattice axes. Problems in one or two dimensions get leading axes of length
1, so that the last axis is contiguous and long. Every array is contiguous. Coefficient arrays may have a batch axis of
length 1, whose entry applies to all samples.
"""

from sciml_bounds.kernels._backend import use_backend

__all__ = ["use_backend"]
