"""Structured matrices with few parameters: ``hashed`` and ``fastfood``."""
