"""``netferry zoo``: networks by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.options import Json, Postprocess

zoo = typer.Typer(help="Networks by name: list, show, build with seeded weights, pull the published ones.")
app.add_typer(zoo, name="zoo", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="See netferry zoo list.")]
Variant = Annotated[
    str | None, typer.Option("--variant", help="Which publication of the network, where there are several: zoo show.")
]
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="Folder, instead of the platform's.")]
FrontEnd = Annotated[
    bool,
    typer.Option("--front-end/--no-front-end", help="vggish, yamnet: read a waveform, not log-mel patches of one."),
]


@zoo.command("list")
def list_(as_json: Json = False) -> None:
    """List the networks. Example: netferry zoo list"""
    from netferry import api

    show(api.zoo.show(), as_json, "zoo.listed")


@zoo.command("show")
def show_(name: Name, cache: CacheFolder = None, as_json: Json = False) -> None:
    """Show what is known of a network, and what was pulled of it. Example: netferry zoo show resnet50"""
    from netferry import api

    show(api.zoo.show(name, cache=cache), as_json, "zoo.shown")


@zoo.command()
def build(
    name: Name,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file; NAME.onnx by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights.", min=0)] = 0,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A file of the network's own format, instead of seeded values.")
    ] = None,
    variant: Variant = None,
    num_classes: Annotated[int | None, typer.Option(help="Another head, of so many classes.", min=1)] = None,
    front_end: FrontEnd = False,
    postprocess: Postprocess = None,
    check: Annotated[str, typer.Option(help="structure, run, or auto: run where onnxruntime is installed.")] = "auto",
    opset: Annotated[int | None, typer.Option(help="11 to 26; 21 by default.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Write a network, offline, with seeded weights or those of a file.

    Example: netferry zoo build resnet50 --seed 0 -o resnet50.onnx
    """
    from netferry import api

    target = output or Path(f"{name}.onnx")
    result = api.zoo.build(
        name, target, seed=seed, weights=weights, variant=variant, num_classes=num_classes, front_end=front_end,
        postprocess=postprocess, check=check, opset=opset,
    )  # fmt: skip
    show(result, as_json, "zoo.built")


@zoo.command()
def pull(
    name: Name,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the network as ONNX here.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option("--mirror", help="Address of the same file (or of its folder, ending in /).")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Weights fetched by hand, instead of a download.")] = None,
    variant: Variant = None,
    front_end: FrontEnd = False,
    postprocess: Postprocess = None,
    cache: CacheFolder = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Read the network with its weights first.")] = True,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Fetch again, and take another file than that of the first time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a network's published weights into the cache. Example: netferry zoo pull squeezenet -o squeezenet.onnx"""
    from netferry import api

    with _bar(name) as progress:
        result = api.zoo.pull(
            name, variant=variant, cache=cache, mirrors=tuple(mirror or ()), file=file, output=output,
            front_end=front_end, postprocess=postprocess, check=check, refresh=refresh, progress=progress,
        )  # fmt: skip
    show(result, as_json, "zoo.pulled")


def _bar(name: str) -> Any:
    """A context that gives the function to report progress to: a bar on stderr where that is a terminal."""
    import sys
    from contextlib import contextmanager, nullcontext

    if not sys.stderr.isatty():
        return nullcontext(None)

    @contextmanager
    def shown() -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    return shown()


def listed(rows: list[dict[str, Any]]) -> None:
    """Print the catalogue as a table."""
    from netferry.cli.tables import listed as table

    shown = [
        {
            "name": row["name"],
            "input": " x ".join(str(d) for d in row["input"]),
            "parameters": f"{row['parameters'] / 1e6:.1f} M",
            "depth": row["depth"],
            "size": f"{row['size_bytes'] / 1e6:.0f} MB",
            "top-1": "" if row["top1"] is None else f"{row['top1']:.2f}",
            "from": row["format"],
            "licence": row["licence"],
        }
        for row in rows
    ]
    table(shown, "name", "input", "parameters", "depth", "size", "top-1", "from", "licence")


def shown(row: dict[str, Any]) -> None:
    """Print one network's row, a line per fact."""
    from netferry.cli.tables import listed as table

    facts = {key: value for key, value in row.items() if key not in ("variants", "cached", "postprocess")}
    facts = {k: v for k, v in facts.items() if not k.startswith("published_") or v != row[k.removeprefix("published_")]}
    for other in row["variants"][1:]:
        differs = {k: v for k, v in other.items() if k in facts and k != "variant" and v != row[k]}
        facts |= {f"{other['variant']}: {key}": value for key, value in differs.items()}
    facts |= {f"postprocess: {key}": value for key, value in (row["postprocess"] or {}).items()}
    for known in row["cached"]:
        facts[f"pulled ({known['variant']})"] = f"{known['file']}, checked by {known['checked_by']}"
    rows = [{"fact": key, "value": _said(value)} for key, value in facts.items() if value not in (None, "", [])]
    table(rows, "fact", "value")


def _said(value: Any) -> Any:
    """A value for people: lists and recipes without brackets."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {_said(each)}" for key, each in value.items())
    return ", ".join(str(each) for each in value) if isinstance(value, list) else value


def built(result: dict[str, Any]) -> None:
    """Print what was written and how it was checked."""
    from netferry.cli.tables import OUT, plain

    for output in result["outputs"]:
        OUT.print(f"[bold]{plain(str(output['file']))}[/bold]  {output['bytes'] / 1e6:.2f} MB")
    for check in result["checks"]:
        OUT.print(f"{plain(check['name'])} check {plain(check['outcome'])}")
    if "network" in result:
        said = f"seeded weights (seed {result['seed']}), not trained ones" if "seed" in result else "weights of "
        OUT.print(plain(f"{result['network']['title']}: {said}{result.get('weights', '')}"))


def pulled(result: dict[str, Any]) -> None:
    """Print where the weights are and what vouches for them."""
    from netferry.cli.tables import OUT, plain

    where = "was in the cache" if result["from_cache"] else f"from {result['source']}"
    OUT.print(f"[bold]{plain(result['file'])}[/bold]  {result['bytes'] / 1e6:.1f} MB  {plain(where)}")
    if "postprocess" in result:
        OUT.print(f"[bold]{plain(result['postprocess'])}[/bold]")
    OUT.print(f"sha256 {result['sha256']}  checked by {plain(result['checked_by'])}")
    for reason in result.get("passed_over", ()):
        OUT.print(f"[dim]could not be had as {plain(reason)}[/dim]")
    if result["variant"] != result["variants"][0]:
        OUT.print(f"the network as published in {result['variant']}, not {result['variants'][0]}")
    if "written" in result:
        built(result["written"])
