"""``netferry evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RunOptions, SourceOptions, grouped
from netferry.cli.options import URL, Json, Labels, Location, Weights


@app.command()
@grouped
def evaluate(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    data: Annotated[list[str], typer.Argument(help="A folder per class, an index with labels, a tar, arrays.")],
    *,
    output: Annotated[
        Location | None,
        typer.Option("--output", "-o", help="Folder for report, plots and tables (or a .json file).", **URL),
    ] = None,
    weights: Weights = None,
    labels: Labels = None,
    crop: Annotated[str, typer.Option(help="model, center (resize, then cut the centre) or none (stretch).")] = "model",
    crop_share: Annotated[float, typer.Option(help="For center: crop's side over the resized picture's.")] = 0.875,
    run: RunOptions,
    scores: Annotated[str | None, typer.Option(help="Name of the output with the scores.")] = None,
    worst: Annotated[int, typer.Option(help="How many of the worst mistakes to show.", min=0, max=400)] = 25,
    items: ItemOptions,
    source: SourceOptions,
    as_json: Json = False,
) -> None:
    """Measure a classifier on labelled data: accuracy, confusion, calibration, worst mistakes.

    Example: netferry evaluate digits.onnx fixtures/digits.csv -o evaluation
    """
    from netferry import api

    result = api.evaluate(
        model,
        data,
        weights=weights,
        labels=labels,
        crop=crop,
        crop_share=crop_share,
        **vars(run),
        output=scores,
        worst=worst,
        out=output,
        **items.arguments(),
        **source.arguments(),
    )
    show(result, as_json, "evaluate.evaluated")


def evaluated(result: dict[str, Any]) -> None:
    """Print accuracy, the classes and the worst mistakes."""
    from netferry.cli.tables import listed

    if result["task"] != "classes":
        shown = f"mean average precision {result['map']:.1%}" if "map" in result else f"rmse {result['rmse']:.6g}"
        typer.echo(f"{result['items']} items: {shown}")
        rows = [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in result["per_class"]]
        listed(rows, *rows[0])
        _told(result)
        return
    tops = ", ".join(f"top-{k[3:]} {v:.2%}" for k, v in result.items() if k.startswith("top") and k[3:].isdigit())
    macro = result["macro"]
    typer.echo(f"{result['items']} items: {tops}")
    typer.echo(f"macro precision {macro['precision']:.3f}, recall {macro['recall']:.3f}, F1 {macro['f1']:.3f}")
    typer.echo(f"calibration error {result['calibration']['ece']:.3f}, log loss {result['log_loss']:.3f}")
    recipe = result["preprocessing"]
    how = f"crop {result['crop']} (resize {recipe['resize']}, crop {recipe.get('crop') or 'none'})"
    typer.echo(f"{how}, {result['device']}, batch {result['batch_size']}\n")
    rows = [{k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()} for row in result["per_class"]]
    listed(rows, "class", "precision", "recall", "f1", "support")
    if result["mistakes"]:
        typer.echo("\nworst mistakes")
        mistakes = [{**m, "confidence": f"{m['confidence']:.3f}"} for m in result["mistakes"][:10]]
        listed(mistakes, "item", "true", "predicted", "confidence")
    _told(result)


def _told(result: dict[str, Any]) -> None:
    from netferry.cli.tables import noted, skipped

    noted(result)
    skipped(result["skipped"])
    for file in result.get("files", ()):
        typer.echo(file)
