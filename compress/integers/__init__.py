"""Quantization to integer arithmetic: ``int8``."""
