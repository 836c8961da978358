"""``netferry retrain``: another head, training, and the result as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, sandbox_of, show
from netferry.cli.options import (
    Crop,
    Format,
    Init,
    InputShape,
    Json,
    Limit,
    Mean,
    OnError,
    Order,
    Plugin,
    Resize,
    Scale,
    Size,
    SkipMissing,
    Weights,
    add_recipe,
    reading_options,
)
from netferry.errors import UsageError

_TRAINING, _HEAD, _DATA, _MACHINE = "Training", "Network", "Data", "Machine"


def _option(help: str, *names: str, panel: str = _TRAINING, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


@app.command()
def retrain(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="The network: .onnx, .h5, .prototxt …")],
    data: Annotated[
        Path, typer.Argument(help="Folder of pictures or sounds, one sub-folder per class; or .csv, .npz.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    weights: Weights = None,
    head: Annotated[str, _option("linear, mlp or conv.", panel=_HEAD)] = "linear",
    at: Annotated[str | None, _option("Layer to put the head on; all behind it goes.", panel=_HEAD)] = None,
    hidden: Annotated[int, _option("Width of an mlp's hidden layer.", panel=_HEAD, min=1)] = 256,
    train: Annotated[str, _option("head, all, or the first layer that learns.", panel=_HEAD)] = "head",
    lr_factor: Annotated[list[str] | None, _option("LAYER[:PARAMETER]=FACTOR of the rate.", panel=_HEAD)] = None,
    task: Annotated[str | None, _option("classes, labels (several each) or values.", panel=_DATA)] = None,
    split: Annotated[str, _option("Shares of training and validation; the rest tests.", panel=_DATA)] = "0.7,0.15",
    augment: Annotated[
        str,
        _option(
            "default (flip,translate=30; 13 % of small inputs), rotate=10,scale=0.9:1.1,crop=0.7:1,color=0.2; none. "
            "Of sounds shift=0.24,gain=6,noise=20 (seconds, dB, dB under the sound).",
            panel=_DATA,
        ),
    ] = "default",
    on_error: OnError = "fail",
    optimizer: Annotated[str, _option("adam, adamw or sgd.")] = "adam",
    learning_rate: Annotated[
        float | None, _option("By default 1e-3 for the head alone, else 1e-4.", "--learning-rate", "--lr")
    ] = None,
    momentum: Annotated[float, _option("Of sgd.")] = 0.9,
    weight_decay: Annotated[float, _option("Of all that learns.")] = 0.0,
    schedule: Annotated[str, _option("cosine, constant, linear or step.")] = "cosine",
    warmup: Annotated[int, _option("Iterations in which the rate rises.", min=0)] = 0,
    drop_factor: Annotated[float, _option("Of the step schedule.")] = 0.1,
    drop_every: Annotated[int, _option("Epochs, of the step schedule.", min=1)] = 10,
    epochs: Annotated[int, _option("Times that all examples are seen.", "--epochs", "-e", min=1)] = 30,
    batch_size: Annotated[int, _option("Examples per batch, all devices together.", "--batch-size", "-b", min=1)] = 32,
    accumulate: Annotated[int, _option("Batches per iteration.", min=1)] = 1,
    clip: Annotated[float | None, _option("Largest norm of the gradients.")] = None,
    validation_every: Annotated[int, _option("Iterations between validations.", min=1)] = 5,
    patience: Annotated[int | None, _option("Stop after so many validations without gain.", min=1)] = None,
    keep: Annotated[str, _option("Weights: best (accuracy, then loss), loss or last.")] = "best",
    class_weights: Annotated[str | None, _option("balanced, or one number per class (1,2,1).")] = None,
    label_smoothing: Annotated[float | None, _option("0 to 1; by default 0.1 where more than a head learns.")] = None,
    mixup: Annotated[float, _option("Alpha; 0 mixes nothing.")] = 0.0,
    loss: Annotated[str | None, _option("Of values: mse, mae or huber.")] = None,
    head_first: Annotated[int | None, _option("Epochs of the head alone before --train layers join.", min=0)] = None,
    unfreeze_every: Annotated[int | None, _option("Epochs after which the next block joins.", min=1)] = None,
    layer_decay: Annotated[float, _option("Rate of a block by that of the block behind it.")] = 1.0,
    seed: Annotated[int, _option("Of split, head, order, augmentation.", min=0)] = 0,
    sweep: Annotated[
        list[str] | None, _option("learning_rate=1e-3,1e-4 or at=pool5,fc7: compare, keep the best.")
    ] = None,
    amp: Annotated[bool, _option("The same as --precision bf16.", "--amp", panel=_MACHINE)] = False,
    precision: Annotated[str, _option("32, bf16 or 16.", panel=_MACHINE)] = "32",
    compile: Annotated[bool, _option("Through torch.compile.", "--compile", panel=_MACHINE)] = False,
    device: Annotated[str, _option("auto, cpu or cuda.", panel=_MACHINE)] = "auto",
    devices: Annotated[int, _option("Processes on this machine (torchrun starts them).", panel=_MACHINE, min=1)] = 1,
    nodes: Annotated[int, _option("Machines; start torchrun on each.", panel=_MACHINE, min=1)] = 1,
    workers: Annotated[int | None, _option("Processes that read pictures.", panel=_MACHINE, min=0)] = None,
    trunk: Annotated[str, _option("auto, cached, no-grad or plain: how what is frozen runs.", panel=_MACHINE)] = "auto",
    run: Annotated[Path | None, _option("Folder for history, plots, report.", panel=_MACHINE)] = None,
    resume: Annotated[bool, _option("Go on from the last checkpoint.", "--resume", panel=_MACHINE)] = False,
    log: Annotated[list[str] | None, _option("tensorboard, mlflow, wandb.", panel=_MACHINE)] = None,
    opset: Annotated[int | None, _option("Of the written file.", panel=_MACHINE)] = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    format: Format = None,
    input_shape: InputShape = None,
    init: Init = None,
    skip_missing: SkipMissing = False,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Retrain a network on new data, keep it as ONNX.

    Example: netferry retrain digits.onnx fixtures/digits.csv -o mine.onnx --epochs 2
    """
    from netferry import api
    from netferry.api.launching import launch, under_torchrun

    reading = reading_options(format, input_shape, limit, "dynamic", init, skip_missing, None, 0, plugin)
    add_recipe(reading, source, weights, mean, scale, channel_order, resize, size, crop)
    if devices * nodes > 1 and not under_torchrun():
        raise typer.Exit(launch(devices, nodes))
    reading["sandbox"] = sandbox_of(context)
    options = {
        "optimizer": optimizer, "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay,
        "schedule": schedule, "warmup": warmup, "drop_factor": drop_factor, "drop_every": drop_every,
        "epochs": epochs, "batch_size": batch_size, "accumulate": accumulate, "clip": clip,
        "validation_every": validation_every, "patience": patience, "keep": keep,
        "class_weights": _weights(class_weights), "label_smoothing": label_smoothing, "mixup": mixup, "loss": loss,
        "head_first": head_first, "unfreeze_every": unfreeze_every,
        "layer_decay": layer_decay, "seed": seed, "compile": compile,
        "precision": "bf16" if amp else precision, "device": device, "devices": devices, "nodes": nodes,
        "workers": workers, "trunk": trunk, "loggers": tuple(log or ()),
    }  # fmt: skip
    result = api.retrain(
        source, data, output, weights=weights, head=head, at=at, hidden=hidden, train=train,
        lr_factors=_factors(lr_factor), task=task, split=_shares(split), augment=augment, run=run, resume=resume,
        sweep=_sweep(sweep), on_error=on_error, opset=opset, **options, **reading,
    )  # fmt: skip
    if result:  # one process of several tells
        show(result, as_json, "retrain.retrained")


@app.command()
def advise(
    data: Annotated[Path, typer.Argument(help="Folder of pictures or sounds, one sub-folder per class; or CSV.")],
    source: Annotated[Path, typer.Argument(help="The network.")],
    weights: Weights = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    seed: Annotated[int, typer.Option(help="Of the sample that is looked at.", min=0)] = 0,
    format: Format = None,
    input_shape: InputShape = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Advise how to retrain a network on given pictures or sounds.

    Example: netferry advise fixtures/digits.csv digits.onnx
    """
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    add_recipe(reading, source, weights, mean, scale, channel_order, resize, size, crop)
    show(api.advise(data, str(source), weights=weights, seed=seed, **reading), as_json, "retrain.advised")


def advised(result: dict[str, Any]) -> None:
    """Print the advice with its reasons."""
    few, many = result["fewest"], result["most"]
    counts = (
        f"{few if few == many else f'{few} to {many}'} {result['kind']} in each of {len(result['classes'])} classes"
    )
    if "seconds" in result:
        counts += f", {result['seconds']['shortest']:.1f} to {result['seconds']['longest']:.1f} s"
    typer.echo(f"{counts}; linear classifier on the features: {result['linear_accuracy']:.1%}")
    for number, row in enumerate(result["advice"], 1):
        typer.echo(f"{number}. {row['what']}\n   because {row['why']}")
        if row["command"]:
            typer.echo(f"   {row['command']}")


def retrained(report: dict[str, Any]) -> None:
    """Print what came out, in a few lines."""
    from netferry.cli.tables import listed

    training, test = report["training"], report["test"]
    if "sweep" in report:
        listed(report["sweep"], *report["sweep"][0])
    data = report["data"]
    counts = ", ".join(f"{sum(part.values())} {name}" for name, part in data["split"].items())
    counts = f" ({counts})" if data["task"] == "classes" else ""
    metric = training["metric"]
    typer.echo(f"{report['file']}  {len(data['classes'])} {data['task']}{counts}")
    typer.echo(
        f"{training['iterations']} iterations in {training['seconds']:.0f} s on {training['device']}, "
        f"frozen part: {training['trunk']}; kept: iteration {training['kept_iteration']} ({training['kept']})"
    )
    if test.get(metric) is not None:
        value = test[metric]
        shown = f"{value:.4g}" if metric == "rmse" else f"{value:.1%}"
        typer.echo(f"test {metric} {shown} on {test['count']} examples, by onnxruntime on the written file")
        if data["task"] == "values" and len(data["classes"]) > 1:
            rows = [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in test["per_class"]]
            listed(rows, *rows[0])
    typer.echo(f"{report['run']}: {', '.join(report['files'])}")
    for row in report["data"]["skipped"]:
        typer.echo(f"skipped: {row['file']}: {row['reason']}", err=True)
    for note in report["notes"]:
        typer.echo(f"note: {note}", err=True)


def _weights(text: str | None) -> str | tuple[float, ...] | None:
    if text is None or text == "balanced":
        return text
    return _numbers(text, "--class-weights is balanced or numbers")


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(v) for v in text.split(","))
    except ValueError:
        raise UsageError(f"{what}, not {text!r}") from None


def _shares(text: str) -> tuple[float, float]:
    numbers = _numbers(text, "--split is TRAINING,VALIDATION")
    if len(numbers) != 2:
        raise UsageError(f"--split is TRAINING,VALIDATION like 0.7,0.15, not {text!r}")
    return numbers[0], numbers[1]


def _factors(texts: list[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts or ():
        name, _, number = text.rpartition("=")
        if not name:
            raise UsageError(f"--lr-factor is LAYER=FACTOR or LAYER:PARAMETER=FACTOR, not {text!r}")
        found[name] = _numbers(number, "--lr-factor is LAYER=FACTOR")[0]
    return found


def _sweep(texts: list[str] | None) -> dict[str, list[Any]] | None:
    found: dict[str, list[Any]] = {}
    for text in texts or ():
        name, _, values = text.partition("=")
        if not values:
            raise UsageError(f"--sweep is OPTION=VALUE,VALUE, not {text!r}")
        found[name.replace("-", "_").replace("lr", "learning_rate") if name == "lr" else name.replace("-", "_")] = [
            _value(v) for v in values.split(",")
        ]
    return found or None


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
