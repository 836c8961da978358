"""``netferry compare``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RunOptions, grouped
from netferry.cli.options import URL, Json, Labels, Location
from netferry.errors import UsageError


@app.command()
@grouped
def compare(
    models: Annotated[list[Location] | None, typer.Argument(help="Two networks or more.", **URL)] = None,
    *,
    zoo: Annotated[
        str | None, typer.Option("--zoo", help="Networks of the zoo by their published accuracy: all, or NAME,NAME.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Labelled data for the accuracy: a folder per class, an index …")
    ] = None,
    output: Annotated[
        Location | None,
        typer.Option("--output", "-o", help="Folder for table and chart (or a .json, .csv, .png, .svg file).", **URL),
    ] = None,
    labels: Labels = None,
    crop: Annotated[str, typer.Option(help="model, center or none, as for evaluate.")] = "model",
    run: RunOptions,
    repeats: Annotated[int, typer.Option(help="Timed runs of each network.", min=1)] = 20,
    items: ItemOptions,
    as_json: Json = False,
) -> None:
    """Compare networks by accuracy, time, size and memory.

    Example: netferry compare digits.onnx digits-small.onnx --data fixtures/digits.csv -o comparison
    """
    from netferry import api

    if zoo is not None:
        if models or data:
            raise UsageError("--zoo goes neither with files nor with --data: its accuracies are the published ones")
        names = () if zoo == "all" else tuple(zoo.split(","))
        timing: dict[str, Any] = {**vars(run), "repeats": repeats}
        show(api.compare_zoo(names, out=output, **timing), as_json, "compare.compared")
        return
    result = api.compare(
        models or [], data=data, labels=labels, crop=crop, repeats=repeats, out=output,
        **vars(run), **items.arguments(),
    )  # fmt: skip
    show(result, as_json, "compare.compared")


def compared(result: dict[str, Any]) -> None:
    """Print a row per network."""
    from netferry.cli.tables import listed

    rows: list[dict[str, Any]] = []
    for row in result["models"]:
        tops = {f"top-{k[3:]}": f"{v:.2%}" for k, v in row.items() if k.startswith("top")}
        memory = "?" if row["memory"] is None else f"{row['memory'] / 1e6:,.0f} MB"
        rows.append(
            {"network": row["name"], **tops, "relative time": f"{row['relative_time']:.2f}",
             "ms per item": f"{row['milliseconds']:.3f}", "size": f"{row['bytes'] / 1e6:,.2f} MB", "memory": memory}
        )  # fmt: skip
    listed(rows, *rows[0])
    typer.echo(f"batch size {result['batch_size']}, {result['device']}, median of {result['repeats']} repeats")
    for file in result.get("files", ()):
        typer.echo(file)
