"""Random matrices S that make a small system S^T A z = S^T b of a large one: one file each, one protocol."""
