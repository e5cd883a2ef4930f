"""Recipes: sequences of passes that are read from TOML, checked, run step by step, and resumed."""
