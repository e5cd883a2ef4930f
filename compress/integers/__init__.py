"""Integer arithmetic: ``int8``."""
