"""The Caffe importer: prototxt, caffemodel, or both, to a model."""

from __future__ import annotations

from pathlib import Path

import netferry.converters.caffe.layers  # noqa: F401 -- registers the readers
from netferry.converters.caffe.deploy import assemble
from netferry.converters.caffe.fields import decode_net
from netferry.converters.caffe.inputs import existing
from netferry.converters.caffe.network import build
from netferry.converters.caffe.prototxt import Message, parse
from netferry.converters.caffe.text_blobs import take_blobs
from netferry.converters.caffe.wire import StoredLayer, WireFile, read_weights
from netferry.converters.options import Limits, ReadOptions
from netferry.converters.signatures import HEAD, is_hdf5
from netferry.errors import LimitExceeded, MalformedFile, NetferryError
from netferry.schemas.learning import freeze_as_source
from netferry.schemas.model import Model, Note, Source
from netferry.schemas.model_folder import ModelFolder


def read(path: Path, options: ReadOptions) -> Model:
    """Read a Caffe net.

    Args:
        path: the prototxt, or a caffemodel (then ``options.weights`` may be the prototxt, or nothing: the settings
            are then read from the caffemodel by BVLC's field numbers).
        options: see :class:`ReadOptions`.

    Raises:
        NetferryError: with file and layer.
    """
    path = existing(path)
    other = None if options.weights is None else existing(options.weights)
    architecture: Path | None = path if is_text(path) else None
    weights = other if architecture is not None else path
    if architecture is None and other is not None:
        architecture = other
    if architecture is not None and weights is not None and is_text(weights):
        raise MalformedFile("both files are text: the second should hold the weights", file=weights)
    current = path
    try:
        stored: list[StoredLayer] | None = None
        if weights is not None:
            current = weights
            stored = _weights(weights, options.limits)
        current = architecture or path
        net = _architecture(architecture, path, options.limits)
        written = take_blobs(net, options.limits)
        by_name, notes = _by_name(stored or [])
        by_name = written | {name: layer for name, layer in by_name.items() if layer.blobs or name not in written}
        ready = assemble(net, by_name, ModelFolder(current), options)
        built = build(ready, by_name if stored is not None or written else None, options)
        built.notes += notes
    except NetferryError as error:
        raise error.at(file=current) from None
    files = tuple(str(p.resolve()) for p in (architecture, weights) if p is not None)
    model = Model(
        built.model,
        source=Source("caffe", files, details={"layers": dict(sorted(built.layers.items()))}),
        preprocessing=built.preprocessing,
        notes=list(dict.fromkeys(built.notes)),
    )
    frozen = {value.name or "": layer for value, layer in built.frozen.items()}
    freeze_as_source(model, frozen, "lr_mult: 0")
    return model


def _by_name(layers: list[StoredLayer]) -> tuple[dict[str, StoredLayer], list[Note]]:
    """The layers of a weights file by name; of several the last with blobs: Net::CopyTrainedLayersFrom copies all."""
    found: dict[str, StoredLayer] = {}
    notes: list[Note] = []
    for layer in layers:
        if layer.blobs and layer.name in found and found[layer.name].blobs:
            message = "the weights file has this layer more than once: the last one counts"
            notes.append(Note("warning", message, layer.name))
        if layer.blobs or layer.name not in found:
            found.pop(layer.name, None)  # in the order of the file, which decides what a shared parameter is
            found[layer.name] = layer
    return found, notes


def is_text(path: Path) -> bool:
    """Whether the file is a prototxt rather than protobuf or HDF5: no control bytes near its beginning."""
    with path.open("rb") as file:
        head = file.read(4096)
    return not any(b < 9 or 13 < b < 32 for b in head)


def _architecture(path: Path | None, weights: Path, limits: Limits) -> Message:
    if path is None:
        with WireFile(weights, limits) as wire:
            return decode_net(wire)
    size = path.stat().st_size
    if size > limits.text_bytes:
        raise LimitExceeded(f"a text of {size} bytes (limit text_bytes={limits.text_bytes})")
    if size == 0:
        raise MalformedFile("the file is empty")
    net = parse(path.read_bytes().decode("utf-8", "surrogateescape"), limits=limits)
    if not ("layer" in net or "layers" in net):
        hint = None
        if any(name in net for name in ("net", "train_net", "net_param", "train_net_param")):
            hint = "this is a solver; give the net that it names"
        raise MalformedFile("the prototxt has no layers", hint=hint)
    return net


def _weights(path: Path, limits: Limits) -> list[StoredLayer]:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_hdf5(head):
        from netferry.converters.caffe.snapshot import read_snapshot  # h5py takes time to import

        return read_snapshot(path, limits)
    _, layers = read_weights(path, limits)
    if not layers:
        raise MalformedFile("a caffemodel without layers (is it a solver state or a mean?)")
    return layers
