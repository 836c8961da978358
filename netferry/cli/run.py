"""``netferry run``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.options import URL, Json, Location
from netferry.errors import UsageError


@app.command()
def run(
    step: Annotated[Location, typer.Argument(help="The step file (YAML).", **URL)],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="PLACE=VALUE: another value, as in options.opset=17.")
    ] = None,
    report: Annotated[
        Location | None, typer.Option(help="Write the report (JSON) here, not where the file says.", **URL)
    ] = None,
    validate: Annotated[bool, typer.Option("--validate", help="Read and check the step file only.")] = False,
    as_json: Json = False,
) -> None:
    """Carry out a step of a pipeline: source, options, checks, outputs, package.

    Example: netferry run fixtures/step.yaml --set outputs.model=digits.onnx
    """
    from netferry import api

    given: dict[str, str] = {}
    for text in changes or ():
        place, equals, value = text.partition("=")
        if not place or not equals:
            raise UsageError(f"--set is PLACE=VALUE, as in options.opset=17, not {text!r}")
        given[place] = value
    result = api.run(step, changes=given, report=report, validate=validate)
    show(result, as_json, "run.ran")


def ran(result: dict[str, Any]) -> None:
    """Print what a step did."""
    typer.echo(f"{result['name']}: {result['status']}")
    conversion = result.get("conversion")
    if conversion:
        from netferry.cli.conversion import converted

        converted(conversion)
    accuracy = result.get("accuracy")
    if accuracy:
        bound = f"at least {accuracy['at_least']:.2%} was asked for"
        typer.echo(f"top-{accuracy['top']} accuracy {accuracy['value']:.2%} on {accuracy['items']} items; {bound}")
    for package in result.get("packages", ()):
        from netferry.cli.package import packaged

        packaged(package)
