"""A module as source: a readable ``model.py`` that needs nothing but torch, with its weights beside it."""

from __future__ import annotations
