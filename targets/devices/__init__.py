"""The machines on which bundles run: this one, and others that can be reached from it."""
