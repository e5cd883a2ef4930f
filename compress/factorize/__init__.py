"""Factorization of layers into chains of smaller ones: ``cp`` and ``lowrank``."""
