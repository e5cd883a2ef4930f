"""Compressed layers: each file holds one encoding of a weight, the layers that use it, and the edit that puts them into a network."""
