"""Graphs as trainable PyTorch modules, and trained weights back into the same graph."""

from __future__ import annotations
