"""The zoo: networks by name, built offline with seeded weights, or with those that their authors publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath
from netferry.api.reading import load as load_file
from netferry.api.writing import save
from netferry.api.zoo_sounds import find_sounds, ontology
from netferry.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from netferry.schemas.model import Model
    from netferry.zoo.catalogue import Entry

__all__ = ["PUBLISHED", "build", "find_sounds", "load", "names", "ontology", "pull", "show"]

_KEEP = 1 << 14
"""larger seeded parameters are computed when they are asked for: a network has hundreds, and they need not lie about"""
PUBLISHED = "published"
"""stands for the weights of a network's official home"""


def names() -> list[str]:
    """Return the names of all networks."""
    from netferry.zoo.catalogue import entries

    return list(entries())


def show(name: str | None = None) -> Any:
    """Return what the catalogue says of one network, or of all.

    Raises:
        UsageError: there is no such network.
    """
    from netferry.zoo.catalogue import entries, entry

    return [e.as_dict() for e in entries().values()] if name is None else entry(name).as_dict()


def load(
    name: str,
    num_classes: int | Sequence[str] | None = None,
    weights: StrPath | None = None,
    *,
    seed: int = 0,
    cache: StrPath | None = None,
    mirrors: Sequence[str] = (),
    front_end: bool = False,
    postprocess: StrPath | None = None,
) -> Model:
    """Return a network of the zoo.

    Args:
        name: see :func:`names`.
        num_classes: put a new head of so many classes (or of classes of these names) on it; everything else stays
            bit-identical.
        weights: None for seeded values, ``"published"`` for those of the network's official home (pulled into the cache
            where they are not there yet), or a file of the network's format.
        seed: of the seeded values, and of the new head's.
        cache: folder for published weights, instead of the platform's.
        mirrors: other places for them, see :func:`pull`.
        front_end: let a sound network read a waveform: what makes its log-mel patches becomes part of the graph.
            (Without it the file still says how they are made, and netferry makes them of sound files.)
        postprocess: see :func:`netferry.api.load`.

    Raises:
        UsageError: there is no such network.
        NetferryError: the weights cannot be had or do not fit.
    """
    from netferry.zoo.catalogue import entry

    found = entry(name)
    if weights is None:
        model = _seeded(found, seed)
    else:
        path = Path(weights)
        if str(weights) == PUBLISHED:
            path = Path(pull(name, cache=cache, mirrors=mirrors, check=False)["file"])
        model = _with_weights(found, path)
    if num_classes is not None:
        model = model.with_head(num_classes, seed=seed)
    _finish(model, found, front_end, postprocess)
    return model


def _finish(model: Model, entry: Entry, front_end: bool, postprocess: StrPath | None) -> None:
    """The parts in front of and behind a sound network."""
    from netferry.api.sounds import add_front_end
    from netferry.converters.pca import add_postprocess, read_pca
    from netferry.converters.waveform import record
    from netferry.schemas.sound import recipe_named

    if entry.front_end is not None:
        record(model, model.inputs[0].name, recipe_named(entry.front_end))
    if front_end:
        if entry.front_end is None:
            raise UsageError(f"{entry.name} reads no sounds, there is no front end for it")
        add_front_end(model, entry.front_end)
    if postprocess is not None:
        add_postprocess(model, read_pca(Path(postprocess)))


def build(
    name: str,
    target: StrPath,
    *,
    seed: int = 0,
    weights: StrPath | None = None,
    num_classes: int | Sequence[str] | None = None,
    front_end: bool = False,
    postprocess: StrPath | None = None,
    check: str = "auto",
    opset: int | None = None,
) -> dict[str, Any]:
    """Write a network with seeded weights, or those of a file, as ONNX; needs neither cache nor network.

    Args:
        target: the file to write.
        seed: the same seed gives the same file.
        weights: a file of the network's own format (what ``pull`` would fetch), instead of seeded values.
        num_classes, front_end, postprocess: see :func:`load`.
        check, opset: see :func:`netferry.api.save`.

    Returns:
        What :func:`netferry.api.save` returns, with the catalogue's row as ``network``.
    """
    if weights is not None and str(weights) == PUBLISHED:
        raise UsageError("build works offline", hint=f"netferry zoo pull {name} -o {target} fetches published weights")
    model = load(name, num_classes, weights, seed=seed, front_end=front_end, postprocess=postprocess)
    made = {"seed": seed} if weights is None else {"weights": str(weights)}
    return {"network": show(name), **made, **save(model, target, check=check, opset=opset)}


def pull(
    name: str,
    *,
    cache: StrPath | None = None,
    mirrors: Sequence[str] = (),
    file: StrPath | None = None,
    output: StrPath | None = None,
    front_end: bool = False,
    postprocess: StrPath | None = None,
    check: bool = True,
    progress: Any = None,
) -> dict[str, Any]:
    """Bring the published weights of a network into the cache, and check that they are its weights.

    Args:
        cache: folder, instead of the platform's (``NETFERRY_CACHE`` names another one too).
        mirrors: addresses that serve the same file, tried before the official one; one that ends in ``/`` is a folder.
        file: weights fetched by hand, taken instead of a download.
        output: write the network with them as ONNX here; with ``front_end`` and ``postprocess`` as in :func:`load`.
        check: read the network with its weights before they count as pulled.
        progress: called with (bytes so far, bytes in all or None).

    Returns:
        ``file`` in the cache, ``bytes``, ``sha256``, where it came from, whether a published checksum was checked, and
        what was written.

    Raises:
        DownloadFailed: no address gave a whole and right file.
        NetferryError: the file is not the network's weights.
    """
    from netferry.zoo.cache import Cache
    from netferry.zoo.catalogue import entry

    found = entry(name)
    reads = _checker(found) if check else None
    result = Cache(cache).bring(found, mirrors=mirrors, file=file, check=reads, progress=progress)
    if output is not None:
        model = _with_weights(found, Path(result["file"]))
        _finish(model, found, front_end, postprocess)
        result["written"] = save(model, output)
    return result


def _seeded(entry: Entry, seed: int) -> Model:
    from netferry.schemas.scaling import scale_fillers
    from netferry.zoo.definition import definition_file

    with definition_file(entry.name) as path:
        model = load_file(path)
    if entry.format == "onnx":
        _take_parameters(model)
    _complete(model, entry, None)
    scale_fillers(model)
    model.initialise(seed, keep=_KEEP)
    return model


def _with_weights(entry: Entry, weights: Path) -> Model:
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
            model = _with_weights(entry, folder / "weights.h5")
            _hold(model)
    else:
        with definition_file(entry.name) as path:
            model = load_file(path, weights)
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
    model.source = replace(model.source, files=files, details={**model.source.details, "zoo": entry.name})
    if entry.labels is not None:
        model.labels = {model.outputs[-1].name: list(class_names(entry.labels))}
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


def _checker(entry: Entry) -> Any:
    """What the cache calls with a candidate file: reads the network with it."""

    def check(path: Path) -> None:
        model = _with_weights(entry, path)
        parameters = sum(v.const_value.size for v in model.parameters().values() if v.const_value is not None)
        if entry.format == "onnx" and not 0.8 < parameters / entry.parameters < 1.25:
            raise CheckFailed(f"has {parameters} parameters, {entry.name} has {entry.parameters}", file=path)

    return check
