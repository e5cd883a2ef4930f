"""Losses: plain functions of tensors, one idea a file; systems add them up."""
