"""Systems that compare two items at a time: similar pairs get near codes, others far ones."""
