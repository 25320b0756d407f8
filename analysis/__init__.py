"""Sweeps become Pareto fronts and reports."""
