"""Rows, constraints, row-level security, and every SQL statement of Dunlin."""
