"""Figures: clocks, storage, memory, reports, budgets."""
