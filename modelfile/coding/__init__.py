"""Entropy coding of the tensors of a model file."""
