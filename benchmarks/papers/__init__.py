"""One script a paper: its published cells, made again with hashpress."""
