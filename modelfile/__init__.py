"""Model file: container, entropy coding, compressed layers with their edits, and decoders without torch."""
