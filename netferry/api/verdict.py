"""What a comparison found, in one row per output, as plain JSON, and as an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from netferry.errors import CheckFailed, NetferryError, quoted


def worst_rows(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per output the row of the case with the largest difference, ``max_rel`` the largest of all cases."""
    worst: dict[str, dict[str, Any]] = {}
    for number, case in enumerate(cases):
        for row in case.get("outputs", ()):
            held = worst.get(row["name"])
            relative = max(row["max_rel"], held["max_rel"] if held else 0.0)
            if held is None or (held["agrees"], -held["max_abs"]) > (row["agrees"], -row["max_abs"]):
                held = worst[row["name"]] = {**row, "case": number}
            held["max_rel"] = relative
    return list(worst.values())


def finite(document: Any) -> Any:
    """JSON knows no infinity: null."""
    if isinstance(document, dict):
        return {k: finite(v) for k, v in document.items()}
    if isinstance(document, list):
        return [finite(v) for v in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def refusal(document: Mapping[str, Any]) -> NetferryError:
    """The error that says which output differs by how much, and which layer first."""
    bad = [row for row in document["worst"] if not row["agrees"]]
    text = "; ".join(f"output {quoted(r['name'])}: {said(r)}" for r in bad[:4])
    allowed = document["tolerance"]
    hint = None
    found = document.get("bisect", {})
    if found.get("layer"):
        after = f", after {quoted(found['last_agreeing'])} agreed" if found["last_agreeing"] else ""
        where = f"{quoted(found['layer'])} ({quoted(found['type'])[1:-1]})"
        hint = f"the first layer that differs is {where}: {said(found)}{after}"
    return CheckFailed(
        f"does not agree with its source ({text}; allowed: {allowed['atol']:g}, or relative {allowed['rtol']:g})",
        layer=found.get("layer"),
        hint=hint,
    )


def said(row: Mapping[str, Any]) -> str:
    """A difference in words."""
    if row["max_abs"] is None:
        return f"{row['differing']} values differ beyond measure (NaN, infinite, or text)"
    relative = "∞" if row["max_rel"] is None else f"{row['max_rel']:.2e}"
    return f"largest difference {row['max_abs']:.2e} (relative {relative})"
