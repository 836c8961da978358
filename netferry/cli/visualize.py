"""``netferry visualize``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RunOptions, SourceOptions, grouped
from netferry.cli.options import URL, Json, Labels, Location, Weights


@app.command()
@grouped
def visualize(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, patterns, an index.")],
    *,
    kind: Annotated[
        str, typer.Option(help="activations (a mosaic), cam (where it looks) or map (features as points).")
    ] = "activations",
    layer: Annotated[str | None, typer.Option(help="The layer, by the source's name.")] = None,
    method: Annotated[str, typer.Option(help="cam: gradcam or occlusion; map: tsne or pca.")] = "auto",
    target: Annotated[str | None, typer.Option("--class", help="cam: the class; the network's answer if not.")] = None,
    output: Annotated[
        Location | None,
        typer.Option("--output", "-o", help="A .png, .svg or .pdf file, or a folder for several.", **URL),
    ] = None,
    weights: Weights = None,
    labels: Labels = None,
    run: RunOptions,
    seed: Annotated[int, typer.Option(help="Of t-SNE.")] = 0,
    items: ItemOptions,
    source: SourceOptions,
    as_json: Json = False,
) -> None:
    """Draw what a network sees: channels of a layer, class activation maps, a map of features.

    Example: netferry visualize digits.onnx fixtures/digit_7_09.png --layer conv1 -o seven.png
    """
    from netferry import api

    result = api.visualize(
        model,
        pictures,
        kind=kind,
        layer=layer,
        method=method,
        target=target,
        out=output,
        weights=weights,
        labels=labels,
        **vars(run),
        seed=seed,
        **items.arguments(),
        **source.arguments(),
    )
    show(result, as_json, "visualize.visualized")


def visualized(result: dict[str, Any]) -> None:
    """Print the files."""
    from netferry.cli.tables import skipped

    how = [str(result[key]) for key in ("layer", "method") if key in result]
    typer.echo(f"{result['kind']}: {', '.join(how)}")
    for row in result.get("pictures", ()):
        said = f"  {row['label']} ({row['score']:.3f})" if "label" in row else ""
        typer.echo(f"{row['item']}{said}")
    skipped(result["skipped"])
    for file in result["files"]:
        typer.echo(file)
