"""Systems that judge one item at a time: classes on the code, or a centre for each class."""
