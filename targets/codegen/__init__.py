"""From the graph to a shared library: memory plan, TVM module, linking."""
