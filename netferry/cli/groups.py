"""Options that several commands have together: a dataclass stands for them among a command's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from netferry.cli.options import (
    ArrayName,
    Arrays,
    BatchSize,
    Crop,
    DataRoot,
    Device,
    Format,
    InputShape,
    LabelColumn,
    Limit,
    Mean,
    OnError,
    Order,
    PathColumn,
    Plugin,
    Resize,
    Scale,
    Size,
    Threads,
    Workers,
    parse_mean,
    parse_numbers,
    parse_pair,
    reading_options,
    recipe_changes,
)


@dataclass
class RunOptions:
    """Where and how the network runs."""

    device: Device = "auto"
    batch_size: BatchSize = 16
    threads: Threads = None


@dataclass
class ItemOptions:
    """What the data is, and how it is read."""

    workers: Workers = None
    on_error: OnError = "fail"
    root: DataRoot = None
    path_column: PathColumn = None
    label_column: LabelColumn = None
    array: ArrayName = None
    arrays: Arrays = "auto"

    def arguments(self) -> dict[str, Any]:
        """Arguments of a verb of the API."""
        given = {"path_column": self.path_column, "label_column": self.label_column, "array": self.array}
        options = {k: v for k, v in given.items() if v is not None}
        options |= {} if self.root is None else {"root": str(self.root)}
        options |= {} if self.arrays == "auto" else {"arrays": self.arrays}
        return {"workers": self.workers, "on_error": self.on_error, "data_options": options}


@dataclass
class RecipeOptions:
    """How pictures become the input, where the model's own recipe is not wanted."""

    mean: Mean = None
    scale: Scale = None
    channel_order: Order = None
    resize: Resize = None
    size: Size = None
    crop: Crop = None

    def separate(self) -> dict[str, Any]:
        """Arguments of the API, one each."""
        mean, file = parse_mean(self.mean)
        return {
            "mean": mean,
            "mean_file": file,
            "scale": parse_numbers(self.scale, "--scale"),
            "channel_order": self.channel_order,
            "resize": self.resize,
            "size": parse_pair(self.size, "--size"),
            "crop": parse_pair(self.crop, "--crop"),
        }

    def arguments(self) -> dict[str, Any]:
        """Arguments of the API: changes to the recipe, and a file with the mean."""
        mean, file = parse_mean(self.mean)
        changes = recipe_changes(mean, self.scale, self.channel_order, self.resize, self.size, self.crop)
        return {"recipe": changes} | ({} if file is None else {"mean_file": file})


@dataclass
class SourceOptions:
    """How a file that is no ONNX is read."""

    format: Format = None
    input_shape: InputShape = None
    plugin: Plugin = None
    limit: Limit = None

    def arguments(self) -> dict[str, Any]:
        """Options of ``api.load``."""
        return reading_options(self.format, self.input_shape, self.limit, "dynamic", None, False, None, 0, self.plugin)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which the options of a dataclass stand in place of a parameter of its type."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = kind
        types = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
            for f in fields(kind)
        ]

    @wraps(command)
    def called(**given: Any) -> None:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**given, **made)

    called.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    del called.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]
    return called
