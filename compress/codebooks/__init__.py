"""Weights from codebooks: ``share`` (one value each) and ``pq`` (sub-vectors)."""
