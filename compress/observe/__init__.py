"""Observation of networks on inputs: activations, their moments, costs, and effects of changes in one layer."""
