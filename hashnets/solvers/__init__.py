"""Codes found without gradients: discrete descent, rotation, factorisation of a similarity matrix."""
