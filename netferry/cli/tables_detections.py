"""How found objects look on a terminal; knows only plain data."""

from __future__ import annotations

from typing import Any

from netferry.cli.tables import OUT, Table, plain, told


def detected(result: dict[str, Any]) -> None:
    """Print label, score and box of every object, per picture."""
    table = Table(box=None, pad_edge=False)
    for column in ("picture", "label"):
        table.add_column(column, overflow="fold")
    for column in ("score", "left", "top", "right", "bottom"):
        table.add_column(column, justify="right")
    for item in result["predictions"]:
        if not item["objects"]:
            table.add_row(plain(item["item"]), "nothing found")
        for i, row in enumerate(item["objects"]):
            box = (f"{v:.0f}" for v in row["box"])
            table.add_row(plain(item["item"]) if i == 0 else "", plain(str(row["label"])), f"{row['score']:.4f}", *box)
    if result["predictions"]:
        OUT.print(table)
    told(result)
