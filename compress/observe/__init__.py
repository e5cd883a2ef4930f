"""What a network computes on given inputs: its activations, their moments, and what changes in one layer do to its outputs."""
