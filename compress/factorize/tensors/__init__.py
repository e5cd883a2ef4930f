"""Tensor methods on plain arrays: decompositions, low-rank reconstruction, choice of ranks."""
