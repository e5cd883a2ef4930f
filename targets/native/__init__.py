"""The native runtime: C sources, and how they are compiled and linked with a network's kernels."""
