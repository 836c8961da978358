"""How ``netferry diff`` looks on a terminal: - what is gone, + what is new, ~ what changed."""

from __future__ import annotations

from typing import Any

from netferry.cli.tables import OUT, plain, shape_text

_SIGNS = {"removed": "[red]-[/red]", "added": "[green]+[/green]", "changed": "[yellow]~[/yellow]"}
_MOST = 40


def differing(result: dict[str, Any]) -> None:
    """Print all changes, section by section; long sections are cut (--json has them all)."""
    for side in ("a", "b"):
        told = result[side]
        name = told["files"][0] if told["files"] else told["format"]
        OUT.print(
            f"[bold]{side}[/bold] {plain(name)}  {told['format']}, opset {told['opset']}, {told['layers']} layers, "
            f"{told['nodes']} nodes, {told['learnables']:,} learnables"
        )
    _section("inputs and outputs", result["ports"], _port)
    _section("layers", result["layers"], lambda c: f"{plain(c['name'])} [dim]({plain(c['type'])})[/dim]")
    _section("nodes", result["nodes"], lambda c: f"{plain(c['name'])} [dim]({plain(c['operator'])})[/dim]")
    _section("weights", result["weights"], _weight)
    _section("renamed", result["renamed"], lambda c: f"{c['kind']} {plain(c['a'])} → {plain(c['b'])}")
    _section("metadata", result["metadata"], lambda c: f"{plain(c['name'])}: {_from_to(c)}")
    close = f", {result['weights_close']} close" if result["weights_close"] else ""
    OUT.print(f"{result['weights_equal']} weights equal{close}")
    ignored = f"  (ignored: {', '.join(result['ignored'])})" if result["ignored"] else ""
    OUT.print(("[green]same[/green]" if result["same"] else "[red]different[/red]") + ignored)


def _section(title: str, changes: list[dict[str, Any]], said: Any) -> None:
    if not changes:
        return
    OUT.print(f"[bold]{title}[/bold]  {len(changes)}")
    for change in changes[:_MOST]:
        OUT.print(f"  {_SIGNS.get(change.get('change', 'changed'))} {said(change)}")
        for detail in change.get("changes", ()):
            name = f"{detail['what']} {detail['name']}" if "name" in detail else detail["what"].replace("_", " ")
            OUT.print(f"      {plain(name)}: {_from_to(detail)}")
    if len(changes) > _MOST:
        OUT.print(f"  … and {len(changes) - _MOST} more (--json has all)")


def _from_to(change: dict[str, Any]) -> str:
    left, right = ("nothing" if change[k] is None else plain(_cut(change[k])) for k in ("a", "b"))
    return f"{left} → {right}"


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _port(change: dict[str, Any]) -> str:
    sides = (
        "nothing" if p is None else f"{p['dtype']} {plain(shape_text(p['shape']))}" for p in (change["a"], change["b"])
    )
    return f"{change['kind']} {plain(change['name'])}: {' → '.join(sides)}"


def _weight(change: dict[str, Any]) -> str:
    name, shape = plain(change["name"]), change["shape"]
    if shape and isinstance(shape[0], list):
        return f"{name}  {shape_text(shape[0])} → {shape_text(shape[1])}"
    text = f"{name}  {shape_text(shape)}"
    if "dtype" in change:
        text += f"  {' → '.join(change['dtype'])}"
    if "max_abs" in change:
        numbers = ["∞" if change[k] is None else f"{change[k]:.2e}" for k in ("max_abs", "max_rel", "rms_rel")]
        text += f"  max {numbers[0]} (relative {numbers[1]}), rms relative {numbers[2]}, {change['differing']:,} differ"
    elif "differing" in change:
        text += f"  {change['differing']:,} differ"
    return text + (f"  {change['values']}" if "values" in change else "")
