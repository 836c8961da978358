"""The command line: the verbs of netferry.api. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from netferry import __version__
from netferry.errors import CheckFailed, NetferryError, UsageError

_EPILOG = (
    "Exit codes: 0 done · 1 other · 2 usage · 3 file cannot be opened · 4 malformed or unknown file · 5 over a limit · "
    "6 unsafe file · 7 not supported · 8 weights · 9 check failed · 10 missing extra · 11 device · 12 output · "
    "130, 143 interrupted"
)
app = typer.Typer(
    name="netferry",
    help="Carries trained networks between formats: Keras, Caffe and ONNX files in, checked ONNX and predictions out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Weights = Annotated[Path | None, typer.Option("--weights", "-w", help="The weights, where they are a second file.")]
Format = Annotated[str | None, typer.Option("--format", help="Source format; by default the content decides.")]
InputShape = Annotated[
    list[str] | None,
    typer.Option("--input-shape", help="NAME=1,3,224,224: shape of an input that the file does not give."),
]
Plugin = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers layer readers.")]
Limit = Annotated[list[str] | None, typer.Option("--limit", help="NAME=NUMBER: another bound than the default.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Class names, one per line (or JSON).")]
Mean = Annotated[
    str | None, typer.Option("--mean", help="Mean to subtract, per channel (104,117,123), or a .binaryproto file.")
]
Scale = Annotated[str | None, typer.Option("--scale", help="Factor after the mean, one or per channel.")]
Order = Annotated[str | None, typer.Option("--channel-order", help="rgb, bgr or gray.")]
Resize = Annotated[str | None, typer.Option("--resize", help="stretch, shortest or none.")]
Size = Annotated[str | None, typer.Option("--size", help="Height and width to resize to (256,256), before --crop.")]
Crop = Annotated[str | None, typer.Option("--crop", help="Height and width of the centre crop (224,224).")]
Stage = Annotated[list[str] | None, typer.Option("--stage", help="Caffe: a stage of the net state.")]
Level = Annotated[int, typer.Option("--level", help="Caffe: the level of the net state.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Go on where the weights file lacks some.")]
InputsNchw = Annotated[
    str | None, typer.Option("--inputs-as-nchw", help="Keras: channels-last inputs to make channels-first (A,B or *).")
]
OutputsNchw = Annotated[
    str | None,
    typer.Option("--outputs-as-nchw", help="Keras: channels-last outputs to make channels-first (A,B or *)."),
]
RightPadded = Annotated[
    bool,
    typer.Option("--right-padded-masks", help="Keras: sequences are padded at the end only, so masks become lengths."),
]
Disable = Annotated[list[str] | None, typer.Option("--disable", help="A pass to leave out of the optimization.")]
Init = Annotated[int | None, typer.Option("--init", help="Seed for parameters that have no values.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"netferry {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version_option: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if debug:
        os.environ["NETFERRY_DEBUG"] = "1"


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="The network: .prototxt, .caffemodel, .onnx …")],
    second: Annotated[Path | None, typer.Argument(help="The weights, where they are a second file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The ONNX file to write.")] = None,
    weights: Weights = None,
    opset: Annotated[int | None, typer.Option(help="11 to 26; 21 by default.", min=1)] = None,
    ir_version: Annotated[int | None, typer.Option(help="The lowest that carries the content by default.")] = None,
    batch: Annotated[str, typer.Option(help="dynamic, or a number to fix it.")] = "dynamic",
    format: Format = None,
    input_shape: InputShape = None,
    labels: Labels = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    init: Init = None,
    skip_missing: SkipMissing = False,
    stage: Stage = None,
    level: Level = 0,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    right_padded_masks: RightPadded = False,
    plugin: Plugin = None,
    limit: Limit = None,
    allow_placeholders: Annotated[
        bool, typer.Option("--allow-placeholders", help="Write unknown layers under netferry's own domain.")
    ] = False,
    external_data: Annotated[
        bool | None,
        typer.Option("--external-data/--no-external-data", help="Weights in a second file (by itself above 1.8 GB)."),
    ] = None,
    check: Annotated[str, typer.Option(help="structure, run, or auto: run where onnxruntime is installed.")] = "auto",
    optimize: Annotated[str, typer.Option(help="none, safe or full: a smaller graph that computes the same.")] = "none",
    precision: Annotated[str | None, typer.Option(help="fp16 or bf16.")] = None,
    disable: Disable = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the source in its own framework before the file appears.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the conversion report (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a network to ONNX. Example: netferry convert fixtures/digits.prototxt fixtures/digits.caffemodel"""
    from netferry import api

    target = output or source.with_suffix(".onnx")
    reading = _reading(format, input_shape, limit, batch, init, skip_missing, stage, level, plugin)
    reading["labels"] = labels
    reading.update(_keras_reading(inputs_as_nchw, outputs_as_nchw, right_padded_masks))
    _add_recipe(reading, source, weights or second, mean, scale, channel_order, resize, size, crop)
    result = api.convert(
        source,
        target,
        weights or second,
        report=report,
        opset=opset,
        ir_version=ir_version,
        external_data=external_data,
        check=check,
        allow_placeholders=allow_placeholders,
        optimize=optimize,
        precision=precision,
        disable=tuple(disable or ()),
        verify=verify,
        **reading,
    )
    _show(result, as_json, "converted")


@app.command()
def optimize(
    source: Annotated[Path, typer.Argument(help="The network.")],
    output: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    weights: Weights = None,
    level: Annotated[str, typer.Option(help="safe or full.")] = "full",
    precision: Annotated[str | None, typer.Option(help="fp16 or bf16.")] = None,
    disable: Disable = None,
    opset: Annotated[int | None, typer.Option(help="11 to 26.", min=1)] = None,
    check: Annotated[str, typer.Option(help="structure, run, or auto.")] = "auto",
    report: Annotated[Path | None, typer.Option(help="Write the report (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Make a network's graph smaller. Example: netferry optimize digits.onnx digits-small.onnx"""
    from netferry import api

    result = api.convert(
        source,
        output,
        weights,
        report=report,
        opset=opset,
        check=check,
        optimize=level,
        precision=precision,
        disable=tuple(disable or ()),
    )
    _show(result, as_json, "converted")


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(help="The source: ONNX, Keras, Caffe or TensorFlow.")],
    files: Annotated[list[Path], typer.Argument(help="The ONNX file; before it the weights, if a second file.")],
    weights: Weights = None,
    atol: Annotated[float, typer.Option(help="Largest difference allowed.", min=0)] = 1e-6,
    rtol: Annotated[float, typer.Option(help="Or: relative to the output's largest magnitude.", min=0)] = 1e-4,
    seeds: Annotated[int, typer.Option(help="How many sets of inputs.", min=1)] = 2,
    dim: Annotated[
        list[str] | None, typer.Option("--dim", help="NAME=NUMBER: size of a dynamic dimension, as in height=224.")
    ] = None,
    bisect: Annotated[bool, typer.Option("--bisect", help="Name the first layer whose values differ.")] = False,
    python: Annotated[
        str | None, typer.Option("--python", help="Interpreter that has the source's framework; this one by default.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the source's framework may take.", min=1)] = 600,
    format: Format = None,
    input_shape: InputShape = None,
    stage: Stage = None,
    level: Level = 0,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    right_padded_masks: RightPadded = False,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Run the same inputs through a source and its ONNX file; exit code 9 where they differ.

    Example: netferry verify model.h5 model.onnx --bisect
    """
    from netferry import api

    if len(files) > 2 or (len(files) == 2 and weights is not None):
        raise UsageError("verify takes SOURCE [WEIGHTS] OUT.onnx")
    reading = _reading(format, input_shape, limit, "dynamic", None, False, stage, level, plugin)
    reading.update(_keras_reading(inputs_as_nchw, outputs_as_nchw, right_padded_masks))
    result = api.verify(
        source,
        files[-1],
        weights or (files[0] if len(files) == 2 else None),
        atol=atol,
        rtol=rtol,
        seeds=seeds,
        sizes=_sizes(dim),
        bisect=bisect,
        python=python,
        timeout=timeout,
        **reading,
    )
    _show(result, as_json, "verified")
    if not result["agrees"]:
        raise typer.Exit(CheckFailed.exit_code)


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(help="The network.")],
    second: Annotated[Path | None, typer.Argument(help="The weights, where they are a second file.")] = None,
    weights: Weights = None,
    format: Format = None,
    input_shape: InputShape = None,
    stage: Stage = None,
    level: Level = 0,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Show a network: inputs, outputs, layers, learnables. Example: netferry inspect fixtures/digits.prototxt"""
    from netferry import api

    reading = _reading(format, input_shape, limit, "dynamic", None, False, stage, level, plugin)
    result = api.inspect(source, weights or second, **reading)
    _show(result, as_json, "inspected")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The network: .onnx, or any source format.")],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, globs.")],
    weights: Weights = None,
    top: Annotated[int, typer.Option(help="How many labels per picture.", min=1)] = 5,
    labels: Labels = None,
    annotate: Annotated[Path | None, typer.Option(help="Write the pictures with label and score here (PNG).")] = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Pictures per run.", min=1)] = 16,
    output: Annotated[str | None, typer.Option(help="Name of the output with the scores.")] = None,
    on_error: Annotated[str, typer.Option(help="What to do with a corrupt picture: fail or skip.")] = "fail",
    format: Format = None,
    input_shape: InputShape = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Label pictures. Example: netferry predict digits.onnx fixtures/digit_7_09.png --top 3"""
    from netferry import api

    reading = _reading(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    result = api.predict(
        model,
        pictures,
        weights=weights,
        top=top,
        labels=labels,
        annotate=annotate,
        mean=_mean(mean)[0],
        mean_file=_mean(mean)[1],
        scale=_numbers(scale, "--scale"),
        channel_order=channel_order,
        resize=resize,
        size=_pair(size, "--size"),
        crop=_pair(crop, "--crop"),
        device=device,
        batch_size=batch_size,
        output=output,
        on_error=on_error,
        **reading,
    )
    _show(result, as_json, "predicted")


@app.command()
def formats(as_json: Json = False) -> None:
    """List the formats that netferry reads."""
    from netferry import api

    result = api.formats()
    _show(result, as_json, "listed", "format", "about", "files", "layers")


@app.command()
def layers(
    format: Annotated[str | None, typer.Argument(help="A source format; all of them by default.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """List the layer types that netferry reads, from the registries."""
    from netferry import api

    result = api.layers(format, plugins=plugin or ())
    _show(result, as_json, "listed", "format", "type", "family", "about")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation: packages, extras, devices, with the fix for what is missing."""
    from netferry import api

    result = api.doctor()
    _show(result, as_json, "diagnosed")


def _sizes(dims: list[str] | None) -> dict[str, int]:
    """``--dim``: sizes of dynamic dimensions."""
    sizes: dict[str, int] = {}
    for text in dims or ():
        name, _, number = text.rpartition("=")
        if not name or not (number.isascii() and number.isdigit() and 0 < int(number) < 2**31):
            raise UsageError(f"--dim is NAME=NUMBER, not {text!r}")
        sizes[name] = int(number)
    return sizes


def _reading(
    format: str | None,
    input_shape: list[str] | None,
    limit: list[str] | None,
    batch: str,
    init: int | None,
    skip_missing: bool,
    stage: list[str] | None,
    level: int,
    plugin: list[Path] | None,
) -> dict[str, Any]:
    """The options of api.load from those of the command line."""
    if batch != "dynamic" and not (batch.isascii() and batch.isdigit() and 0 < int(batch) < 2**31):
        raise UsageError(f"--batch is dynamic or a number, not {batch!r}")
    shapes: dict[str, tuple[int, ...]] = {}
    for text in input_shape or ():
        name, _, dims = text.rpartition("=")
        if not name or not all(d.strip().isdigit() for d in dims.split(",")):
            raise UsageError(f"--input-shape is NAME=1,3,224,224, not {text!r}")
        shapes[name] = tuple(int(d) for d in dims.split(","))
    limits: dict[str, int] = {}
    for text in limit or ():
        name, _, number = text.partition("=")
        if not number.isdigit():
            raise UsageError(f"--limit is NAME=NUMBER, not {text!r}")
        limits[name] = int(number)
    return {
        "format": format,
        "batch": None if batch == "dynamic" else int(batch),
        "input_shapes": shapes,
        "init": init,
        "skip_missing": skip_missing,
        "stages": tuple(stage or ()),
        "level": level,
        "plugins": tuple(plugin or ()),
        "limits": limits,
    }


def _add_recipe(
    reading: dict[str, Any],
    source: Path,
    weights: Path | None,
    mean: str | None,
    scale: str | None,
    order: str | None,
    resize: str | None,
    size: str | None,
    crop: str | None,
) -> None:
    """Preprocessing options, as changes to what the source says."""
    values, file = _mean(mean)
    reading["mean_file"] = file
    changes = {
        "mean": values,
        "scale": _numbers(scale, "--scale"),
        "color": order.upper() if order else None,
        "resize": resize,
        "size": _pair(size, "--size"),
        "crop": _pair(crop, "--crop"),
    }
    reading["recipe"] = {k: v for k, v in changes.items() if v is not None}


def _mean(text: str | None) -> tuple[tuple[float, ...] | None, Path | None]:
    """``--mean``: numbers, or the path of a mean image."""
    if text is None:
        return None, None
    try:
        return tuple(float(v) for v in text.split(",")), None
    except ValueError:
        return None, Path(text)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError:
        raise UsageError(f"{option} is one number or several with commas, not {text!r}") from None


def _pair(text: str | None, option: str) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise UsageError(f"{option} is HEIGHT,WIDTH, not {text!r}")
    return int(parts[0]), int(parts[1])


def _keras_reading(inputs: str | None, outputs: str | None, right_padded: bool) -> dict[str, Any]:
    """The options of api.load that concern Keras's layouts and masks."""
    return {
        "inputs_as_nchw": tuple(inputs.split(",")) if inputs else (),
        "outputs_as_nchw": tuple(outputs.split(",")) if outputs else (),
        "right_padded_masks": right_padded,
    }


def _show(result: Any, as_json: bool, table: str, *columns: str) -> None:
    """Print a result as JSON, or by the function of netferry.tables called ``table``."""
    if as_json:
        _print_json(result)
    else:
        from netferry import tables

        getattr(tables, table)(result, *columns)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=True, default=str))


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)


def main() -> None:
    """Run the command line; every error ends in one message on stderr and its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except NetferryError as error:
        if os.environ.get("NETFERRY_DEBUG"):
            raise
        if "--json" in sys.argv:
            _print_json(error.as_dict())
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        usage_exit = _usage_exit(error)
        if usage_exit is not None:
            sys.exit(usage_exit)
        if os.environ.get("NETFERRY_DEBUG"):
            raise
        print(f"error: internal: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        print("hint: this is a bug of netferry; netferry --debug … shows where", file=sys.stderr)
        sys.exit(1)


def _usage_exit(error: Exception) -> int | None:
    """Show click's own usage errors as it does, and return their exit code."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or not isinstance(code, int):
        return None
    show()
    return code
