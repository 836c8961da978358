"""Operators, a family per file; every function is named like its operator."""
