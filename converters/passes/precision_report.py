"""What a turn to half precision did: which operators, what stays in float32 and why, sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PrecisionReport:
    """What was turned and what stayed, and why."""

    precision: str
    turned: Counter[str] = field(default_factory=Counter)
    kept: dict[str, str] = field(default_factory=dict)
    """layer: why it stays in float32"""
    overflowing: dict[str, float] = field(default_factory=dict)
    """weight: its largest magnitude, where that leaves the range"""
    vanishing: dict[str, int] = field(default_factory=dict)
    """weight: how many of its values become 0"""
    casts: int = 0
    weight_bytes: dict[str, int] = field(default_factory=dict)
    """``before`` and ``after``, and ``float32``: of those that stay"""
    gate: dict[str, Any] = field(default_factory=dict)
    """``allowed``, ``error``; where layers stay for it: ``error_without_float32``, ``float32_layers``, ``runs``"""
    made_of: dict[str, str] = field(default_factory=dict)
    """half weight: the float32 weight that it is made of"""
    inserted: set[str] = field(default_factory=set)
    """what the Casts give that stand where float32 and half precision meet"""
    halves: dict[str, str] = field(default_factory=dict)
    """value that a turned operator gives: its layer"""

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "precision": self.precision,
            "turned": dict(sorted(self.turned.items())),
            "kept": self.kept,
            "overflowing": self.overflowing,
            "vanishing": self.vanishing,
            "casts": self.casts,
            "weight_bytes": self.weight_bytes,
            **({"gate": self.gate} if self.gate else {}),
        }
