"""Weights from few parameters: ``hashed`` and ``fastfood``."""
