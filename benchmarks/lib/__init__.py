"""What several benchmarks share: result files, kept models, networks, the page of the papers."""
