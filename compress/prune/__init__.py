"""Weights set to zero: ``prune``."""
