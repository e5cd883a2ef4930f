"""Sensitivity of the codes to the compression of single layers."""
