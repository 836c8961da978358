"""How ``netferry inspect`` looks on a terminal; knows only plain data."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from netferry.cli.tables import OUT, plain, shape_text

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def inspected(model: dict[str, Any]) -> None:
    """Print a model's facts and its layer table."""
    totals = model["totals"]
    _head(model)
    table = Table(box=None, pad_edge=False)
    for column in ("layer", "type", "output", "reads"):
        table.add_column(column, overflow="fold")
    for column in ("learnables", "state", "multiply-adds", "memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in model["layers"]:
        shapes = ", ".join(shape_text(o["shape"]) for o in row["outputs"])
        counts = [f"{row[k]:,}" if row[k] else "" for k in ("learnable_count", "state_count")]
        adds = "?" if row["multiply_adds"] is None else f"{row['multiply_adds']:,}" if row["multiply_adds"] else ""
        words = (plain(v) for v in (row["name"], row["type"], shapes, row["inputs"]))
        table.add_row(*words, *counts, adds, bytes_text(row["memory_bytes"]))
    OUT.print(table)
    unknown = totals["multiply_adds_unknown"]
    at = ", ".join(f"{name} {size}" for name, size in model["counted_at"].items())
    OUT.print(
        f"{totals['layers']} layers, {totals['connections']} connections, {totals['nodes']} nodes, "
        f"{totals['learnables']:,} learnables in {totals['learnable_tensors']} tensors, "
        f"{totals['state']:,} state, depth {totals['depth']}"
    )
    OUT.print(
        f"{'at least ' if unknown else ''}{short(totals['multiply_adds'])} multiply-adds"
        f"{f' ({len(unknown)} layers of unknown size)' if unknown else ''}, "
        f"{bytes_text(totals['weight_bytes'])} of weights, "
        f"{bytes_text(totals['peak_bytes'])} of values at most at a time" + plain(f"  (at {at})" if at else "")
    )
    for warning in model["warnings"]:
        OUT.print(f"[yellow]warning[/yellow] {plain(warning['message'])}")


def _head(model: dict[str, Any]) -> None:
    source = model["source"]
    by = f" ({plain(source['version'])})" if source["version"] else ""
    others = "".join(f", {plain(name)} {version}" for name, version in model["opsets"].items() if name)
    OUT.print(f"[bold]{plain(str(model['name']))}[/bold]  from {source['format']}{by}, opset {model['opset']}{others}")
    for kind in ("inputs", "outputs"):
        for item in model[kind]:
            more = ""
            if kind == "inputs" and (recipe := model["preprocessing"].get(item["name"])):
                more = "  " + ", ".join(f"{k} {_recipe(v)}" for k, v in recipe.items())
            if kind == "outputs" and (labels := model["labels"].get(item["name"])):
                more = f"  {labels} labels"
            OUT.print(
                f"  {kind[:-1]:6} {plain(item['name'])}  {item['dtype']}  {plain(shape_text(item['shape']))}"
                f"[dim]{plain(more)}[/dim]"
            )


def _recipe(value: Any) -> str:
    if isinstance(value, dict):
        return "image"
    return "/".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)


def short(number: int) -> str:
    """1,234,567 as 1.23 M."""
    for unit, letter in _UNITS:
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return str(number)


def bytes_text(number: int | None) -> str:
    """Bytes in the largest fitting unit of 1,000; a question mark for None."""
    if number is None:
        return "?"
    for unit, letter in _UNITS:
        if number >= unit:
            return f"{number / unit:.3g} {letter}B"
    return f"{number} B"


def quantized(result: dict[str, Any]) -> None:
    """Print what quantizing cost."""
    before, after = result["bytes_before"], result["bytes_after"]
    OUT.print(f"[bold]{plain(result['file'])}[/bold]  {bytes_text(after)}, was {bytes_text(before)}")
    for kind, name in (("int8", "in int8"), ("float", "in float32")):
        operators = ", ".join(f"{n} {t}" for t, n in result["operators"][kind].items())
        OUT.print(f"{sum(result['operators'][kind].values())} operators {name}: {plain(operators)}")
    OUT.print(f"calibrated on {result['samples']} items ({result['method']})")
    if (accuracy := result["accuracy"]) is not None:
        OUT.print(
            f"accuracy {accuracy['before']:.4f} before, {accuracy['after']:.4f} after, on {accuracy['items']} items "
            f"(allowed to fall by {result['max_drop']:g})"
        )
    for name, apart in result["difference"].items():
        same = (result["agreement"] or {}).get(name)
        kept = "" if same is None else f", first class kept on {same:.1%}"
        OUT.print(f"output {plain(name)}: largest relative difference {apart:.2e}{kept}")
    if result["preprocessing_from"] == "assumed":
        OUT.print("[yellow]warning[/yellow] the model carries no preprocessing: plain 0..255 values were assumed")
