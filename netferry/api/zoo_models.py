"""Models of the zoo's entries: definitions filled with seeded values, or with those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import load as load_file
from netferry.errors import CheckFailed, FormatError, NetferryError, UnknownFormat, WeightsError

if TYPE_CHECKING:
    from netferry.schemas.model import Model
    from netferry.zoo.catalogue import Entry

_KEEP = 1 << 14
"""larger seeded parameters are computed when they are asked for: a network has hundreds, and they need not lie about"""


def variant_of(entry: Entry, weights: Path) -> Entry:
    """Return the publication of a network that a weights file is of, by the file's format; the first where none is.

    Raises:
        InputError: the file cannot be opened.
    """
    from netferry.converters import formats

    if len(entry.variants) == 1:
        return entry
    try:
        found = formats.detect(weights).name
    except UnknownFormat:
        return entry
    return next((each for each in entry.variants if each.format == found), entry)


def seeded_model(entry: Entry, seed: int) -> Model:
    from netferry.schemas.scaling import scale_fillers
    from netferry.zoo.definition import definition_file

    with definition_file(entry.definition) as path:
        model = load_file(path)
    if entry.format == "onnx":
        _take_parameters(model)
    _complete(model, entry, None)
    scale_fillers(model)
    model.initialise(seed, keep=_KEEP)
    return model


def with_weights(entry: Entry, weights: Path) -> Model:
    """The network with weights of a file: its definition's, or for ONNX the file's own graph."""
    from netferry.converters.checkpoint import as_keras_weights, is_checkpoint, read_checkpoint
    from netferry.converters.options import Limits
    from netferry.schemas.publish import temporary_folder
    from netferry.zoo.definition import definition_file

    if entry.format == "onnx":
        model = load_file(weights)
    elif entry.format == "keras" and is_checkpoint(weights):
        with temporary_folder() as folder:
            as_keras_weights(read_checkpoint(weights, Limits()), folder / "weights.h5")
            model = with_weights(entry, folder / "weights.h5")
            _hold(model)
    else:
        with definition_file(entry.definition) as path:
            try:
                model = load_file(path, weights)
            except NetferryError as error:
                if error.file in (None, str(path), str(weights)):  # the definition is ours, and right
                    error.file = str(weights)
                    if isinstance(error, (FormatError, WeightsError)):
                        error.hint = f"the file holds no weights of {entry.name}, or not all"
                raise
            if model.uninitialised:
                raise CheckFailed(f"the weights lack {len(model.uninitialised)} of {entry.name}'s", file=weights)
    _complete(model, entry, weights)
    return model


def _hold(model: Model) -> None:
    """Take the values into memory: the file that they lie in goes away."""
    import numpy as np

    from netferry.schemas.ir import ir
    from netferry.schemas.tensors import array_of

    for name, value in model.graph.initializers.items():
        array = array_of(value)
        if array is not None:
            value.const_value = ir.Tensor(np.array(array), name=name)


def _complete(model: Model, entry: Entry, weights: Path | None) -> None:
    """Name, origin, class names and preprocessing of the catalogue; the definition's temporary file is gone by then."""
    from dataclasses import replace

    from netferry.schemas.preprocessing import Preprocessing
    from netferry.zoo.catalogue import class_names

    model.graph.name = entry.name
    files = () if weights is None else (str(weights.resolve()),)
    model.source = replace(model.source, files=files, details={**model.source.details, "zoo": entry.definition})
    if entry.labels is not None:
        model.labels = {model.outputs[-1].name: list(class_names(entry.labels))}
    if entry.task == "embedding":
        model.tasks = {model.outputs[-1].name: "values"}
    if entry.preprocessing is not None:
        size = list(entry.input[:2])
        model.preprocessing = {model.inputs[0].name: Preprocessing.from_dict({"size": size, **entry.preprocessing})}


def _take_parameters(model: Model) -> None:
    """Turn the inputs behind the first into parameters without values: the form of the zoo's ONNX text."""
    from netferry.schemas.layers import ROLE, role_by_use, static_shape
    from netferry.schemas.tensors import uninitialised_tensor

    for value in list(model.graph.inputs)[1:]:
        model.graph.inputs.remove(value)
        tensor = uninitialised_tensor(static_shape(value))
        tensor.name = value.name
        value.const_value = tensor
        model.graph.register_initializer(value)
        value.metadata_props[ROLE] = role_by_use(value).value
        if len(static_shape(value)) == 1:
            tensor = uninitialised_tensor(static_shape(value), filler={"type": "constant", "value": _beginning(value)})
            tensor.name = value.name
            value.const_value = tensor


def _beginning(value: Any) -> float:
    """What a vector begins with: 1 for scales and running variances, 0 for biases and running means."""
    slots = {(use.node.op_type, use.idx) for use in value.uses()}
    return 1.0 if slots & {("BatchNormalization", 1), ("BatchNormalization", 4)} else 0.0


def checker(entry: Entry) -> Any:
    """What the cache calls with a candidate file: reads the network with it."""

    def check(path: Path) -> None:
        model = with_weights(entry, path)
        parameters = sum(v.const_value.size for v in model.parameters().values() if v.const_value is not None)
        if entry.format == "onnx" and not 0.8 < parameters / entry.parameters < 1.25:
            raise CheckFailed(f"has {parameters} parameters, {entry.name} has {entry.parameters}", file=path)

    return check
