"""The net to build: upgraded, filtered for the TEST phase, without what only training and testing need."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from netferry.converters.caffe.inputs import DATA_TYPES, NetInput, data_input, declared_inputs, name_dims, with_mean
from netferry.converters.caffe.prototxt import Message, Scalar
from netferry.converters.caffe.registry import reader_key, registry
from netferry.converters.caffe.rules import included, state_of
from netferry.converters.caffe.upgrade import upgrade
from netferry.converters.caffe.wire import StoredLayer
from netferry.converters.options import ReadOptions
from netferry.errors import LimitExceeded, MalformedFile, quoted
from netferry.schemas.model import Note
from netferry.schemas.model_folder import ModelFolder

_LOSSES = {
    "SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid", "MultinomialLogisticLoss": None,
    "EuclideanLoss": None, "HingeLoss": None, "InfogainLoss": None, "ContrastiveLoss": None, "Accuracy": None,
    "SmoothL1Loss": None, "MultiBoxLoss": None, "CenterLoss": None, "L1Loss": None, "CTCLoss": None,
    "DetectionEvaluate": None, "LabelSpecificAdd": None,
}  # fmt: skip
"""Layers that need labels -> what stands for them in the deployed net (None: nothing)."""
_SINKS = ("HDF5Output", "Silence")


@dataclass
class Net:
    """A net ready to be built: layers of the TEST phase and the inputs."""

    name: str
    layers: list[Message]
    inputs: list[NetInput]
    notes: list[Note] = field(default_factory=list)


def assemble(net: Message, stored: dict[str, StoredLayer], folder: ModelFolder, options: ReadOptions) -> Net:
    """Upgrade, filter and turn a net into its deploy form.

    Data layers become inputs; losses and accuracies fed by a data layer's labels become Softmax or Sigmoid, or go.

    Raises:
        NetferryError: see the parts.
    """
    notes: list[Note] = []
    layers = upgrade(net, notes)
    if len(layers) > options.limits.layers:
        raise LimitExceeded(f"{len(layers)} layers (limit layers={options.limits.layers})")
    state = state_of(net, options.level, options.stages)
    kept = [m for m in layers if included(m, state)]
    stays = set(map(id, kept))
    for name, count in Counter(m.text("name") for m in layers if id(m) not in stays).items():
        notes.append(Note("dropped", f"{count} not in the TEST phase at this level and stages", name))
    inputs: list[NetInput] = []
    labels: set[str] = set()
    body: list[Message] = []
    for layer in kept:
        kind = layer.text("type")
        if kind == "Input":
            inputs.extend(declared_inputs(layer, options))
        elif _reads_data(layer):
            inputs.append(data_input(layer, kept, stored, folder, options, notes))
            labels.update(layer.texts("top")[1:])
        else:
            body.append(layer)
    body = _deploy(body, labels, notes)
    used = {b for m in body for b in m.texts("bottom")}
    for blob in sorted(labels & used):
        notes.append(Note("warning", f"label blob {quoted(blob)} is read by a layer that stays: it became an input"))
        inputs.append(NetInput(blob, blob, options.input_shapes.get(blob, (inputs[0].shape[0] if inputs else 1,))))
    repeated = [name for name, n in Counter(i.name for i in inputs).items() if n > 1]
    if repeated:
        raise MalformedFile(f"input {quoted(repeated[0])} is declared twice")
    if not inputs and not any(m.text("type") == "DummyData" for m in body):
        raise MalformedFile("the net has no inputs in the TEST phase")
    if options.mean is not None and inputs and inputs[0].preprocessing is None:
        inputs[0] = with_mean(inputs[0], options.mean, options)
    name_dims(inputs, body, options.batch)
    return Net(net.text("name") or "net", body, inputs, notes)


def _reads_data(layer: Message) -> bool:
    """Whether a layer brings the data: one of Caffe's, or a Python layer without bottoms that no plug-in reads."""
    kind = layer.text("type")
    if kind == "Python" and (layer.texts("bottom") or registry.get(reader_key(layer)) is not None):
        return False
    return kind in DATA_TYPES and bool(layer.texts("top"))


def _deploy(layers: list[Message], labels: set[str], notes: list[Note]) -> list[Message]:
    """Replace or drop the layers that need labels where the labels come from a data layer."""
    derived = set(labels)
    out: list[Message] = []
    for layer in layers:
        kind, name = layer.text("type"), layer.text("name")
        bottoms = layer.texts("bottom")
        only_labels = bool(bottoms) and all(b in derived for b in bottoms)
        if only_labels or (kind in _SINKS and any(b in derived for b in bottoms)):
            derived.update(layer.texts("top"))
            notes.append(Note("dropped", f"{kind} works on labels only", name))
            continue
        lone = kind in _LOSSES and len(bottoms) == 1
        if kind not in _LOSSES or not (lone or any(b in derived for b in bottoms[1:])):
            out.append(layer)
            continue
        stand_in = _LOSSES[kind]
        if stand_in is None or any(m.text("type") == stand_in and m.texts("bottom") == bottoms[:1] for m in layers):
            notes.append(Note("dropped", f"{kind} is for training and testing", name))
            continue
        notes.append(Note("dropped", f"{kind} became {stand_in}", name))
        out.append(_stand_in(layer, stand_in, layers))
    return out


def _stand_in(layer: Message, kind: str, layers: list[Message]) -> Message:
    out = Message(line=layer.line, column=layer.column)
    tops = layer.texts("top")
    blobs = {b for m in layers for b in m.texts("top")}
    top = tops[0] if tops and not tops[0].startswith("loss") else "prob"
    if top == "prob" and top in blobs and top not in tops:
        top = tops[0] if tops else layer.text("name")
    for name, value in (
        ("name", layer.text("name")),
        ("type", kind),
        ("bottom", layer.texts("bottom")[0]),
        ("top", top),
    ):
        out.add(name, Scalar(value, quoted=True))
    for message in layer.messages("softmax_param"):
        out.add("softmax_param", message)
    return out
