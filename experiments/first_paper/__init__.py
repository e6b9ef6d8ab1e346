"""Reproduce the first paper: its tables, its figures, and its authors' code."""
