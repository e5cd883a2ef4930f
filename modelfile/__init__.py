"""The model file and everything that must be read back from it: container, entropy coding, compressed layers, decoders."""
