"""How results look on a terminal; knows only plain data."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

from netferry.errors import quoted

_WIDE = 1000  # a pipe has no width: tables there are not folded
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE)
_ERR = Console(highlight=False, soft_wrap=True, stderr=True)


def text(value: Any) -> str:
    """A value as text; lists with commas."""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    return "" if value is None else str(value)


def plain(value: Any) -> str:
    """A value as text that a terminal shows as it is: names from files hold no markup and no control sequences."""
    return markup.escape(quoted(text(value), 10_000)[1:-1])


def shape_text(shape: Sequence[Any] | None) -> str:
    """Dimensions with crosses between."""
    return "?" if shape is None else " × ".join("?" if d is None else str(d) for d in shape) or "scalar"


def listed(rows: list[dict[str, Any]], *columns: str) -> None:
    """Print rows as a table with the named columns."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, style="bold" if column == columns[0] else None, overflow="fold")
    for row in rows:
        table.add_row(*(plain(row.get(c)) for c in columns))
    OUT.print(table)


def _fed(value: Any) -> str:
    """What an input was fed with: a shape, those of a sequence's items, a map's keys, nothing."""
    if value is None:
        return "left out"
    if isinstance(value, dict):
        return f"{len(value)} keys"
    if value and isinstance(value[0], list):
        return f"{len(value)} of {_fed(value[0])}"
    return shape_text(value)


def verified(result: dict[str, Any]) -> None:
    """Print how far two networks are apart."""
    source, candidate = result["source"], result["candidate"]
    OUT.print(f"[bold]{plain(source['files'][0])}[/bold]  by {plain(source['run_by'])}")
    OUT.print(f"[bold]{plain(candidate['file'])}[/bold]  by {plain(candidate['run_by'])}")
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "seed", "inputs", "output"):
        table.add_column(column, overflow="fold")
    for column in ("max abs", "max rel", ""):
        table.add_column(column, justify="right")
    for case in result["cases"]:
        shapes = ", ".join(_fed(value) for value in case["inputs"].values())
        head = [str(case["batch"]), str(case["seed"]), shapes]
        if "skipped" in case:
            table.add_row(*head, f"[yellow]skipped[/yellow] {plain(case['skipped'])}", "", "", "")
            continue
        for i, row in enumerate(case["outputs"]):
            numbers = ["∞" if row[k] is None else f"{row[k]:.2e}" for k in ("max_abs", "max_rel")]
            mark = "[green]✓[/green]" if row["agrees"] else "[red]✗[/red]"
            table.add_row(*(head if i == 0 else ["", "", ""]), plain(row["name"]), *numbers, mark)
    OUT.print(table)
    if "bisect" in result:
        _bisected(result["bisect"])
    allowed = result["tolerance"]
    verdict = "[green]agrees[/green]" if result["agrees"] else "[red]differs[/red]"
    OUT.print(f"{verdict}  allowed: {allowed['atol']:g}, or relative {allowed['rtol']:g}")


def _bisected(found: dict[str, Any]) -> None:
    counts = f"{found['compared']} layers compared, {found['not_compared']} not comparable"
    if not found["compared"]:
        OUT.print("no layer has a counterpart on the other side")
        return
    if found["layer"] is None:
        OUT.print(f"no layer differs  ({counts})")
        return
    numbers = ["∞" if found[k] is None else f"{found[k]:.2e}" for k in ("max_abs", "max_rel")]
    OUT.print(
        f"[red]first diverging layer[/red] [bold]{plain(found['layer'])}[/bold] ({plain(found['type'])})  "
        f"max abs {numbers[0]}, max rel {numbers[1]}  ({counts})"
    )
    if found["last_agreeing"] is not None:
        OUT.print(f"last layer that agrees: {plain(found['last_agreeing'])}")


def predicted(result: dict[str, Any]) -> None:
    """Print labels and scores per picture, or sound."""
    table = Table(box=None, pad_edge=False)
    table.add_column("sound" if "timelines" in result else "picture", overflow="fold")
    table.add_column("label", overflow="fold")
    values = result.get("task") == "values"
    table.add_column("value" if values else "score", justify="right")
    for item in result["predictions"]:
        for i, row in enumerate(item["top"]):
            number = f"{row['score']:.6g}" if values else f"{row['score']:.4f}"
            table.add_row(plain(item["item"]) if i == 0 else "", plain(str(row["label"])), number)
    if result["predictions"] or "output" not in result:
        OUT.print(table)
    told(result)


def told(result: dict[str, Any]) -> None:
    """Print what ``predict`` wrote, skipped and assumed."""
    for name in ("output", "out_raw"):
        if name in result:
            OUT.print(f"{plain(result[name])}: {result['count']} items")
    skipped(result.get("skipped", []), result.get("output"))
    noted(result)


def noted(result: dict[str, Any]) -> None:
    """Tell what happened on the way: smaller batches than asked for, a recipe that had to be assumed."""
    for note in result.get("notes", []):
        _ERR.print(f"note: {plain(note)}")
    if result.get("preprocessing_from") == "assumed" and result.get("preprocessing") is not None:
        _ERR.print("[yellow]warning[/yellow] the model carries no preprocessing: plain 0..255 values were assumed")


def skipped(items: Sequence[dict[str, Any]], whole: str | None = None) -> None:
    """Tell what could not be read: the first twenty, and how many there are.

    Args:
        whole: a file that lists them all.
    """
    for item in items[:20]:
        error = item["error"]
        reason = error["reason"] if isinstance(error, dict) else error
        _ERR.print(f"[yellow]skipped[/yellow] {plain(item['item'])}: {plain(reason)}")
    if items:
        _ERR.print(
            f"{len(items)} {'item' if len(items) == 1 else 'items'} skipped"
            + (f"; see {plain(whole)}" if whole else "")
        )


def diagnosed(result: dict[str, Any]) -> None:
    """Print the doctor's findings."""
    for check in result["checks"]:
        mark = {"ok": "[green]✓[/green]", "missing": "[yellow]–[/yellow]"}.get(check["outcome"], "[red]✗[/red]")
        OUT.print(f"{mark} {plain(check['name'])}  {plain(check['detail'])}")
        if check.get("fix"):
            OUT.print(f"    {plain(check['fix'])}")
