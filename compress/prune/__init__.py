"""Unstructured pruning: ``prune``."""
