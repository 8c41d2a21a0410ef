"""Multigrid: geometric cycles on lattices, and PyAMG hierarchies applied by torch."""
