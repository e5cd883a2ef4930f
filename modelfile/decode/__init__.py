"""Decoders of compressed weights in numpy, without torch."""
