"""How results look on a terminal; knows only plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(highlight=False, soft_wrap=True, stderr=True)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    return "" if value is None else str(value)


def _shape(shape: Sequence[Any] | None) -> str:
    return "?" if shape is None else " × ".join("?" if d is None else str(d) for d in shape) or "scalar"


def listed(rows: list[dict[str, Any]], *columns: str) -> None:
    """Print rows as a table with the named columns."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, style="bold" if column == columns[0] else None, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(row.get(c))) for c in columns))
    _OUT.print(table)


def converted(report: dict[str, Any]) -> None:
    """Print what a conversion did, in a few lines."""
    for output in report.get("outputs", []):
        size = f"{output['bytes'] / 1e6:.2f} MB" if "bytes" in output else ""
        _OUT.print(f"[bold]{escape(str(output['file']))}[/bold]  {size}")
    layers = report.get("layers", {})
    _OUT.print(f"{sum(layers.values())} layers: " + escape(", ".join(f"{n} {t}" for t, n in sorted(layers.items()))))
    for check in report.get("checks", []):
        mark = {"passed": "[green]✓[/green]", "skipped": "[yellow]–[/yellow]"}.get(check.get("outcome", ""), "•")
        _OUT.print(f"{mark} {escape(str(check.get('name')))} check  {escape(_outcome(check.get('detail')))}".rstrip())
    for note in report.get("notes", []):
        where = f"{note['layer']}: " if note.get("layer") else ""
        _OUT.print(f"[dim]{note['kind']}[/dim] {escape(where + note['message'])}")


def _outcome(detail: Any) -> str:
    """One line about a check."""
    if not isinstance(detail, dict):
        return _text(detail)
    if "worst" in detail:
        far = max((row["max_rel"] or 0.0 for row in detail["worst"]), default=0.0)
        return f"{detail['source']['run_by']}, {len(detail['runs'])} runs, largest relative difference {far:.1e}"
    batches = [run.get("batch") for run in detail.get("runs", ())]
    shown = ", ".join("as it is" if b is None else f"batch {b}" for b in batches)
    return "; ".join([shown, *map(str, detail.get("warnings", ()))])


def inspected(model: dict[str, Any]) -> None:
    """Print a model's facts and its layer table."""
    source = model["source"]
    _OUT.print(f"[bold]{escape(str(model['name']))}[/bold]  from {source['format']}, opset {model['opset']}")
    for kind in ("inputs", "outputs"):
        for item in model[kind]:
            _OUT.print(f"  {kind[:-1]:6} {escape(item['name'])}  {item['dtype']}  {_shape(item['shape'])}")
    table = Table(box=None, pad_edge=False)
    for column in ("layer", "type", "output", "reads"):
        table.add_column(column, overflow="fold")
    for column in ("learnables", "state"):
        table.add_column(column, justify="right")
    for row in model["layers"]:
        shapes = ", ".join(_shape(o["shape"]) for o in row["outputs"])
        numbers = [f"{row[k]:,}" if row[k] else "" for k in ("learnable_count", "state_count")]
        table.add_row(*(escape(_text(v)) for v in (row["name"], row["type"], shapes, row["inputs"])), *numbers)
    _OUT.print(table)
    totals = model["totals"]
    _OUT.print(
        f"{totals['layers']} layers, {totals['connections']} connections, {totals['nodes']} nodes, "
        f"{totals['learnables']:,} learnables in {totals['learnable_tensors']} tensors, "
        f"{totals['state']:,} state, depth {totals['depth']}"
    )
    for warning in model["warnings"]:
        _OUT.print(f"[yellow]warning[/yellow] {escape(warning)}")


def verified(result: dict[str, Any]) -> None:
    """Print how far two networks are apart."""
    source, candidate = result["source"], result["candidate"]
    _OUT.print(f"[bold]{escape(source['files'][0])}[/bold]  by {escape(source['run_by'])}")
    _OUT.print(f"[bold]{escape(candidate['file'])}[/bold]  by {escape(candidate['run_by'])}")
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "seed", "inputs", "output"):
        table.add_column(column, overflow="fold")
    for column in ("max abs", "max rel", ""):
        table.add_column(column, justify="right")
    for case in result["cases"]:
        shapes = ", ".join(_shape(shape) for shape in case["inputs"].values())
        head = [str(case["batch"]), str(case["seed"]), shapes]
        if "skipped" in case:
            table.add_row(*head, f"[yellow]skipped[/yellow] {escape(case['skipped'])}", "", "", "")
            continue
        for i, row in enumerate(case["outputs"]):
            numbers = ["∞" if row[k] is None else f"{row[k]:.2e}" for k in ("max_abs", "max_rel")]
            mark = "[green]✓[/green]" if row["agrees"] else "[red]✗[/red]"
            table.add_row(*(head if i == 0 else ["", "", ""]), escape(row["name"]), *numbers, mark)
    _OUT.print(table)
    if "bisect" in result:
        _bisected(result["bisect"])
    allowed = result["tolerance"]
    verdict = "[green]agrees[/green]" if result["agrees"] else "[red]differs[/red]"
    _OUT.print(f"{verdict}  allowed: {allowed['atol']:g}, or relative {allowed['rtol']:g}")


def _bisected(found: dict[str, Any]) -> None:
    counts = f"{found['compared']} layers compared, {found['not_compared']} not comparable"
    if not found["compared"]:
        _OUT.print("no layer has a counterpart on the other side")
        return
    if found["layer"] is None:
        _OUT.print(f"no layer differs  ({counts})")
        return
    numbers = ["∞" if found[k] is None else f"{found[k]:.2e}" for k in ("max_abs", "max_rel")]
    _OUT.print(
        f"[red]first diverging layer[/red] [bold]{escape(found['layer'])}[/bold] ({escape(found['type'])})  "
        f"max abs {numbers[0]}, max rel {numbers[1]}  ({counts})"
    )
    if found["last_agreeing"] is not None:
        _OUT.print(f"last layer that agrees: {escape(found['last_agreeing'])}")


def predicted(result: dict[str, Any]) -> None:
    """Print labels and scores per picture."""
    table = Table(box=None, pad_edge=False)
    table.add_column("picture", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("score", justify="right")
    for item in result["predictions"]:
        for i, row in enumerate(item["top"]):
            table.add_row(escape(item["item"]) if i == 0 else "", escape(str(row["label"])), f"{row['score']:.4f}")
    _OUT.print(table)
    for item in result.get("skipped", []):
        _ERR.print(f"[yellow]skipped[/yellow] {escape(item['item'])}: {escape(item['error']['reason'])}")
    if result.get("preprocessing_from") == "assumed":
        _ERR.print("[yellow]warning[/yellow] the model carries no preprocessing: plain 0..255 values were assumed")


def diagnosed(result: dict[str, Any]) -> None:
    """Print the doctor's findings."""
    for check in result["checks"]:
        mark = {"ok": "[green]✓[/green]", "missing": "[yellow]–[/yellow]"}.get(check["outcome"], "[red]✗[/red]")
        _OUT.print(f"{mark} {escape(check['name'])}  {escape(check['detail'])}")
        if check.get("fix"):
            _OUT.print(f"    {escape(check['fix'])}")
