"""Devices: lowering, kernels, bundles, runners."""
