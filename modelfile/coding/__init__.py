"""Entropy models and coded streams of the model file."""
