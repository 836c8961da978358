"""``netferry data``: a look at a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import Json

data = typer.Typer(help="Look at a data set.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command()
def preview(
    pictures: Annotated[Path, typer.Argument(help="Folder with one sub-folder of pictures per class, or a CSV file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet to write (PNG).")] = Path("preview.png"),
    n: Annotated[int, typer.Option("--n", "-n", help="How many pictures.", min=1, max=400)] = 16,
    seed: Annotated[int, typer.Option(help="Of the random choice.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a sheet of random pictures with labels. Example: netferry data preview fixtures/digits.csv -o sheet.png"""
    from netferry import api

    show(api.preview(pictures, output, n=n, seed=seed), as_json, "data.previewed")


def previewed(result: dict[str, object]) -> None:
    """Print where the sheet is and what the data set holds."""
    from netferry.cli.tables import listed

    typer.echo(f"{result['file']}: {len(result['shown'])} of {result['pictures']} pictures")  # type: ignore[arg-type]
    classes: dict[str, int] = result["classes"]  # type: ignore[assignment]
    listed([{"class": name, "pictures": count} for name, count in classes.items()], "class", "pictures")
