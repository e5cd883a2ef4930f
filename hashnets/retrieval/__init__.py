"""Codes, their comparison, and the retrieval figures of a model."""
