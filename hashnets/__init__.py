"""Hash networks: encoders, heads, systems, training, codes and retrieval."""
