"""Compression passes, the recipes that combine them, and sensitivity analysis."""
