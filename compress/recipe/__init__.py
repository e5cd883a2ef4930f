"""Recipes: passes in a legal order, read from TOML, checked, run step by step and resumed."""
