"""Data sets, read from one-line specs."""
