"""The value that flows, the errors, the units, the files and the data sets."""
