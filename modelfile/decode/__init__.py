"""Dense weights out of compressed ones, in numpy alone."""
