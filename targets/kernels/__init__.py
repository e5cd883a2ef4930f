"""Kernels in TensorIR, one operator a file, and how their weights are packed."""
