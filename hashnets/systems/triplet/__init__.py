"""Systems that compare three items at a time: an anchor is nearer to a similar item than to another."""
