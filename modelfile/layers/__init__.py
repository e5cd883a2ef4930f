"""Compressed layers: each file defines one encoding of a weight, its layers, and the edit that inserts them."""
