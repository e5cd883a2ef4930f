"""The network as a graph of operators: from torch through TVM to ours."""
