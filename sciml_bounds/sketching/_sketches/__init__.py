"""Sketches: random matrices S that reduce a large system to a small one, S^T A z = S^T b."""
