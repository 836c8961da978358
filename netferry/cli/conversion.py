"""What a conversion did, in a few lines; without rich, whose import would cost a fiftieth of a conversion."""

from __future__ import annotations

from typing import Any

import typer

from netferry.errors import quoted


def converted(report: dict[str, Any]) -> None:
    """Print what a conversion did."""
    for output in report.get("outputs", []):
        size = f"{output['bytes'] / 1e6:.2f} MB" if "bytes" in output else ""
        typer.echo(f"{typer.style(_plain(output['file']), bold=True)}  {size}")
    layers = report.get("layers", {})
    typer.echo(f"{sum(layers.values())} layers: " + _plain(", ".join(f"{n} {t}" for t, n in sorted(layers.items()))))
    for check in report.get("checks", []):
        mark = {"passed": typer.style("✓", fg="green"), "skipped": typer.style("–", fg="yellow")}.get(
            check.get("outcome", ""), "•"
        )
        typer.echo(f"{mark} {_plain(check.get('name'))} check  {_plain(_outcome(check.get('detail')))}".rstrip())
    for note in report.get("notes", []):
        where = f"{note['layer']}: " if note.get("layer") else ""
        typer.echo(f"{typer.style(note['kind'], dim=True)} {_plain(where + note['message'])}")


def _plain(value: Any) -> str:
    """A value as text that a terminal shows as it is: names from files hold no control sequences."""
    return quoted(str(value), 10_000)[1:-1]


def _outcome(detail: Any) -> str:
    """One line about a check."""
    if not isinstance(detail, dict):
        return "" if detail is None else str(detail)
    if "worst" in detail:
        far = max((row["max_rel"] or 0.0 for row in detail["worst"]), default=0.0)
        return f"{detail['source']['run_by']}, {len(detail['runs'])} runs, largest relative difference {far:.1e}"
    batches = [run.get("batch") for run in detail.get("runs", ())]
    shown = ", ".join("as it is" if b is None else f"batch {b}" for b in batches)
    return "; ".join([shown, *map(str, detail.get("warnings", ()))])
