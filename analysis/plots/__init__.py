"""Plots: one file a kind of question; every function returns a matplotlib Figure."""
