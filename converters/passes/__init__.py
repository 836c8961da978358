"""Passes over the graph, each small, switchable and honest about what it changed."""
