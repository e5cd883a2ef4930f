"""Passes that make a hash network smaller, and the file it is kept in."""
