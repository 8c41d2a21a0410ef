"""What multiplies: lattice stencils, matrices, callables."""
