"""Passes that quantize weights with codebooks: ``share`` (scalars) and ``pq`` (sub-vectors)."""
