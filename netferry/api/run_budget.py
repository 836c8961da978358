"""What one run of a network may take, from the limits of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netferry.runtime.budget import Budget


def run_budget(limits: Mapping[str, int] | None) -> Budget:
    """Return the budget that ``run_bytes`` and ``run_seconds`` say, by default or among ``limits``.

    Raises:
        UsageError: no such limit, or no number for one.
    """
    from netferry.converters.options import Limits
    from netferry.runtime.budget import Budget

    bounds = Limits.of(limits)
    return Budget(bounds.run_bytes, bounds.run_seconds)
