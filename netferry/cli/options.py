"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from netferry.errors import UsageError


def location(text: str | Path) -> Path:
    """A path, or a URL as it is (the API takes both; a Path would swallow a slash)."""
    return text if "://" in str(text) else Path(text)  # pyright: ignore[reportReturnType]


def beside(source: Path, suffix: str) -> Path:
    """The default output: the source's name with another suffix; for a URL in the working folder."""
    if "://" in str(source):
        from urllib.parse import unquote, urlsplit

        return Path(Path(unquote(urlsplit(str(source)).path)).name or "model").with_suffix(suffix)
    return source.with_suffix(suffix)


Location: TypeAlias = Any
"""A Path, or a URL as text. Typer makes a Path of whatever is annotated as one."""
URL: Any = {"parser": location, "metavar": "PATH|URL"}
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Weights = Annotated[
    Location | None, typer.Option("--weights", "-w", help="The weights, where they are a second file.", **URL)
]
Format = Annotated[str | None, typer.Option("--format", help="Source format; by default the content decides.")]
InputShape = Annotated[
    list[str] | None,
    typer.Option("--input-shape", help="NAME=1,3,224,224: shape of an input that the file does not give."),
]
Plugin = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers layer readers.")]
Limit = Annotated[list[str] | None, typer.Option("--limit", help="NAME=NUMBER: another bound than the default.")]
Labels = Annotated[Location | None, typer.Option("--labels", help="Class names, one per line (or JSON).", **URL)]
Mean = Annotated[
    str | None, typer.Option("--mean", help="Mean to subtract, per channel (104,117,123), or a .binaryproto file.")
]
Scale = Annotated[str | None, typer.Option("--scale", help="Factor after the mean, one or per channel.")]
Order = Annotated[str | None, typer.Option("--channel-order", help="rgb, bgr or gray.")]
Resize = Annotated[str | None, typer.Option("--resize", help="stretch, shortest, letterbox or none.")]
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
DecodeBoxes = Annotated[
    bool, typer.Option("--decode-boxes", help="Darknet: detections as boxes, scores and classes, suppressed.")
]
ScoreThreshold = Annotated[
    float, typer.Option("--score-threshold", help="With --decode-boxes: the least score.", min=0, max=1)
]
Overlap = Annotated[
    float,
    typer.Option("--overlap", help="With --decode-boxes: boxes that overlap a better one by more go.", min=0, max=1),
]
ITEMS = "Pictures, folders, globs, lists, CSV, Parquet, tar, .npy, .npz, HDF5, - (stdin)."
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, tensorrt, openvino …")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", help="Items in one run of the network.", min=1)]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Threads of the network on the processor; onnxruntime's choice.", min=1)
]
Workers = Annotated[int | None, typer.Option("--workers", help="Threads that decode; one per processor.", min=1)]
OnError = Annotated[str, typer.Option("--on-error", help="What to do with an item that cannot be read: fail or skip.")]
Shard = Annotated[str | None, typer.Option("--shard", help="i/n: only part i of n of the items (1/4 … 4/4).")]
DataRoot = Annotated[
    Location | None, typer.Option("--root", help="Where the paths of a list, CSV or Parquet file start.", **URL)
]
PathColumn = Annotated[str | None, typer.Option("--path-column", help="Column of an index with the picture.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="Column of an index with the label.")]
ArrayName = Annotated[str | None, typer.Option("--array", help="Which array of a .npz or HDF5 file.")]
Arrays = Annotated[
    str, typer.Option("--arrays", help="Arrays are picture, or tensor (the network's input as it is); auto by type.")
]
Disable = Annotated[list[str] | None, typer.Option("--disable", help="A pass to leave out of the optimization.")]
FrontEnd = Annotated[
    str | None, typer.Option(help="vggish or yamnet: a network of log-mel patches reads a waveform instead.")
]
Postprocess = Annotated[
    Location | None,
    typer.Option("--postprocess", help="vggish_pca_params.npz: VGGish's embedding through its PCA, to 8 bit.", **URL),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="fp16 or bf16; what needs float32 and the inputs and outputs keep it.")
]
HalfIo = Annotated[bool, typer.Option("--half-io", help="With --precision: inputs and outputs too.")]
KeepLayer = Annotated[
    list[str] | None,
    typer.Option("--keep-layer", "--keep-float32", help="A layer, or an operator type, that stays float32 (repeat)."),
]
MaxError = Annotated[
    float | None,
    typer.Option("--max-error", help="With --precision: largest relative difference allowed (fp16 0.002, bf16 0.02)."),
]
Dim = Annotated[
    list[str] | None, typer.Option("--dim", help="NAME=NUMBER: size of a dynamic dimension, as in height=224.")
]
NoWeights = Annotated[
    bool,
    typer.Option("--no-weights", help="The architecture alone; a large model's data files need not be there."),
]
Inputs = Annotated[str | None, typer.Option("--inputs", help="Keep the network from these tensors or layers on (A,B).")]
Outputs = Annotated[str | None, typer.Option("--outputs", help="Keep the network up to these tensors or layers (A,B).")]
Init = Annotated[int | None, typer.Option("--init", help="Seed for parameters that have no values.")]


def is_whole(text: str) -> bool:
    """Whether a text is a whole number as anybody writes it, and not of thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) < 20


def parse_sizes(dims: list[str] | None) -> dict[str, int]:
    """``--dim``: sizes of dynamic dimensions."""
    sizes: dict[str, int] = {}
    for text in dims or ():
        name, _, number = text.rpartition("=")
        if not name or not (is_whole(number) and 0 < int(number) < 2**31):
            raise UsageError(f"--dim is NAME=NUMBER, not {text!r}")
        sizes[name] = int(number)
    return sizes


def reading_options(
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
    if batch != "dynamic" and not (is_whole(batch) and 0 < int(batch) < 2**31):
        raise UsageError(f"--batch is dynamic or a number, not {batch!r}")
    shapes: dict[str, tuple[int, ...]] = {}
    for text in input_shape or ():
        name, _, dims = text.rpartition("=")
        if not name or not all(is_whole(d.strip()) for d in dims.split(",")):
            raise UsageError(f"--input-shape is NAME=1,3,224,224, not {text!r}")
        shapes[name] = tuple(int(d) for d in dims.split(","))
    limits: dict[str, int] = {}
    for text in limit or ():
        name, _, number = text.partition("=")
        if not is_whole(number):
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


def add_recipe(
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
    values, file = parse_mean(mean)
    reading["mean_file"] = file
    reading["recipe"] = recipe_changes(values, scale, order, resize, size, crop)


def recipe_changes(
    mean: tuple[float, ...] | None,
    scale: str | None,
    order: str | None,
    resize: str | None,
    size: str | None,
    crop: str | None,
) -> dict[str, Any]:
    """Fields of the preprocessing that the command line changes."""
    changes = {
        "mean": mean,
        "scale": parse_numbers(scale, "--scale"),
        "color": order.upper() if order else None,
        "resize": resize,
        "size": parse_pair(size, "--size"),
        "crop": parse_pair(crop, "--crop"),
    }
    return {k: v for k, v in changes.items() if v is not None}


def parse_mean(text: str | None) -> tuple[tuple[float, ...] | None, Path | None]:
    """``--mean``: numbers, or the path of a mean image."""
    if text is None:
        return None, None
    try:
        float(text.partition(",")[0])
    except ValueError:
        return None, location(text)
    return parse_numbers(text, "--mean"), None


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(v) for v in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(v) for v in values):
        raise UsageError(f"{option} is one number or several with commas, not {text!r}")
    return values


def parse_pair(text: str | None, option: str) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(is_whole(p.strip()) and 0 < int(p) < 2**31 for p in parts):
        raise UsageError(f"{option} is HEIGHT,WIDTH, not {text!r}")
    return int(parts[0]), int(parts[1])


def part_options(inputs: str | None, outputs: str | None, no_weights: bool) -> dict[str, Any]:
    """The options of api.load that say how much of a network is wanted."""
    return {
        "inputs": tuple(inputs.split(",")) if inputs else (),
        "outputs": tuple(outputs.split(",")) if outputs else (),
        "no_weights": no_weights,
    }


def keras_options(inputs: str | None, outputs: str | None, right_padded: bool) -> dict[str, Any]:
    """The options of api.load that concern Keras's layouts and masks."""
    return {
        "inputs_as_nchw": tuple(inputs.split(",")) if inputs else (),
        "outputs_as_nchw": tuple(outputs.split(",")) if outputs else (),
        "right_padded_masks": right_padded,
    }
