"""Layers as chains of smaller ones: ``cp`` and ``lowrank``."""
