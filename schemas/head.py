"""Where a network decides: its last layer that mixes features, and the way from there to the output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from netferry.errors import UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow, Role, layer_of, read_by, role_of, static_shape
from netferry.schemas.model import Model
from netferry.schemas.surgery import ancestors

CLASSIFIERS = {"Conv": 1, "Gemm": 1, "MatMul": 1}
"""operators that a classifier ends in, with the input that holds the weights"""
ACTIVATIONS = {"Softmax", "LogSoftmax", "Sigmoid"}
_ARRANGE = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout"}
"""operators that change no value on the way to the output"""
_RECURRENT = {"LSTM", "GRU", "RNN", "ConvTranspose"}
_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceMax"}
_SLOT_NAMES = {1: "weight", 2: "bias"}


class Head(NamedTuple):
    """The last layer that mixes features, and the names of its learnables."""

    layer: str
    parameters: tuple[str, ...]


@dataclass
class Ending:
    """From the classifier to one output of the graph."""

    output: ir.Value
    """the graph's output"""
    logits: ir.Value
    """the value that the last activation reads; the output itself where there is none"""
    activation: ir.Node | None
    """Softmax, LogSoftmax or Sigmoid, when nothing but rearrangement follows it"""
    classifier: ir.Node | None
    """the node that mixes features last; None where its result is no row of scores"""
    why: str = ""
    """why there is no classifier"""
    behind: list[ir.Node] = field(default_factory=list)
    """nodes that read the classifier's result, in order"""

    @property
    def size(self) -> int | None:
        """Number of classes."""
        weight = None if self.classifier is None else weight_of(self.classifier)
        return None if weight is None or self.classifier is None else static_shape(weight)[class_axis(self.classifier)]


def class_axis(node: ir.Node) -> int:
    """The axis of a classifier's weights that runs over the classes."""
    if node.op_type == "Conv":
        return 0
    transposed = node.attributes.get("transB")
    return 0 if transposed is not None and transposed.value else 1


def head_of(model: Model, output: str | None = None) -> Head:
    """Return the head of the network: (layer, names of its learnables), ``("conv10", ("weight", "bias"))``.

    It is the last layer with learnables that mixes features (convolution, dense, recurrent) in front of the output;
    a batch norm behind it belongs to the way out. Of several outputs the one with labels counts, else the deepest.

    Args:
        model: the network.
        output: which output; by default chosen as said.

    Raises:
        UsageError: no such output, or nothing in front of it learns.
    """
    node = _last_mixer(model.graph, scores_output(model, output))
    if node is None:
        raise UsageError("no layer of the network has learnables", file=_file(model))
    row = next(r for r in model.layers if node in r.nodes)
    return Head(row.name, tuple(parameter_names(row)))


def parameter_names(row: LayerRow) -> dict[str, ir.Value]:
    """Learnables of a layer by their short names: ``weight``, ``bias``, or what stands behind the layer's name.

    Two that would be called alike keep their whole names.
    """
    names: dict[str, ir.Value] = {}
    for value in row.learnables:
        full = value.name or ""
        rest = full.removeprefix(row.name)
        short = rest.lstrip("./:") if full.startswith(row.name) and rest[:1] in (".", "/", ":") else ""
        if not short:
            slots = [u.idx for u in value.uses() if u.node in row.nodes and u.node.op_type in CLASSIFIERS]
            short = _SLOT_NAMES.get(slots[0], "") if slots else ""
        short = short or full.replace("/", ".").rpartition(".")[2] or full
        names[full if short in names else short] = value
    return names


def find_row(model: Model, layer: str) -> LayerRow:
    """Return the layer's row of the layer table.

    Raises:
        UsageError: there is no such layer; the hint names the nearest.
    """
    import difflib

    rows = {row.name: row for row in model.layers if row.type != "Input"}
    if layer in rows:
        return rows[layer]
    near = difflib.get_close_matches(layer, rows, 3, 0.4)
    hint = "netferry inspect lists the layers" + (f"; perhaps {', '.join(map(quoted, near))}" if near else "")
    raise UsageError(f"no layer {quoted(layer)}", file=_file(model), hint=hint)


def scores_output(model: Model, name: str | None = None) -> ir.Value:
    """Return the output that holds the scores.

    Raises:
        UsageError: no output of that name.
    """
    outputs = list(model.graph.outputs)
    if name is not None:
        found = next((v for v in outputs if v.name == name), None)
        if found is None:
            there = ", ".join(quoted(v.name or "") for v in outputs)
            raise UsageError(f"no output {quoted(name)} (there are {there})", file=_file(model))
        return found
    labelled = [v for v in outputs if v.name in model.labels]
    floats = [v for v in outputs if v.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)]
    candidates = labelled or [v for v in floats if _may_be_scores(v)] or floats or outputs
    order = {node: i for i, node in enumerate(model.graph)}

    def depth(value: ir.Value) -> tuple[int, int]:
        mixer, producer = _last_mixer(model.graph, value), value.producer()
        return (-1 if mixer is None else order[mixer], -1 if producer is None else order.get(producer, -1))

    return max(candidates, key=depth)


def _may_be_scores(value: ir.Value) -> bool:
    dims = () if value.shape is None else tuple(value.shape)
    return not dims or (len(dims) in (2, 4) and sum(isinstance(d, int) and d > 1 for d in dims[1:]) <= 1)


def ending_of(model: Model, output: str | None = None) -> Ending:
    """Say how the network ends: classifier, what follows it, last activation, output.

    The classifier is a convolution, Gemm or MatMul whose result alone (pooled, activated, rearranged) becomes the
    output. A network whose result is joined from branches, normalized again, or still has a height and a width
    ends in features: ``classifier`` is then None and ``why`` says why.
    """
    end = scores_output(model, output)
    logits, activation = _activation_before(end)
    ending = Ending(end, logits, activation, None)
    node = _last_mixer(model.graph, end)
    if node is None:
        ending.why = "no layer has learnables"
        return ending
    behind = _readers(model.graph, node.outputs[0])
    why = _no_classifier(node, behind, end, activation is not None or end.name in model.labels)
    if why:
        ending.why = f"its last layer with learnables is {quoted(layer_of(node)[0])}, and {why}"
        return ending
    ending.classifier, ending.behind = node, behind
    return ending


def _no_classifier(node: ir.Node, behind: list[ir.Node], end: ir.Value, says_so: bool) -> str:
    """Why a network's result is no row of scores; empty where it is one."""
    if node.op_type not in CLASSIFIERS:
        return f"{node.op_type} is no classifier"
    if weight_of(node) is None:
        return "its weights are no plain tensor of the file"
    group = node.attributes.get("group")
    if node.op_type == "Conv" and group is not None and group.value != 1:
        return "it is a grouped convolution"
    known = {node.outputs[0], *(v for n in behind for v in n.outputs)}
    for one in behind:
        others = [v for v in one.inputs if v is not None and v not in known and not _is_constant(v)]
        if others:
            return f"{one.op_type} joins it with other layers"
        if not says_so and one.op_type in ("BatchNormalization", "InstanceNormalization", "LayerNormalization"):
            return "it is normalized again"
    dims = None if end.shape is None else tuple(end.shape)
    if dims is not None and (len(dims) not in (2, 4) or (len(dims) == 4 and not _is_row(dims))):
        return f"the output {quoted(end.name or '')} of shape {end.shape} is no row of scores"
    if node.op_type == "Conv" and not says_so:
        kernel = static_shape(weight_of(node) or end)[2:]
        if any(k > 1 for k in kernel) and any(n.op_type in _POOLS for n in behind):
            return "a convolution with a kernel, pooled, gives features"
        if len(node.inputs) < 3 or node.inputs[2] is None:
            return "a convolution without a bias gives features"
    return ""


def _is_row(dims: tuple[object, ...]) -> bool:
    return sum(d != 1 for d in dims[1:]) <= 1


def _is_constant(value: ir.Value) -> bool:
    """Whether a value comes from initializers and constants alone, or only tells sizes."""
    if value.is_initializer():
        return True
    producer = value.producer()
    if producer is None:
        return False
    if producer.op_type in ("Shape", "Size"):
        return True
    return all(v is None or _is_constant(v) for v in producer.inputs)


def weight_of(node: ir.Node) -> ir.Value | None:
    """The initializer with a classifier's weights; None where they are computed."""
    value = node.inputs[CLASSIFIERS.get(node.op_type, 1)] if len(node.inputs) > 1 else None
    return value if value is not None and value.is_initializer() else None


def _activation_before(end: ir.Value) -> tuple[ir.Value, ir.Node | None]:
    value = end
    while (node := value.producer()) is not None and node.op_type in _ARRANGE and node.inputs[0] is not None:
        value = node.inputs[0]
    if node is not None and node.op_type in ACTIVATIONS and node.inputs[0] is not None:
        return node.inputs[0], node
    return end, None


def _last_mixer(graph: ir.Graph, value: ir.Value) -> ir.Node | None:
    """The last node in front of ``value`` that mixes features by learnables."""
    before = ancestors(graph, [value])
    last = None
    for node in graph:
        mixes = node.op_type in CLASSIFIERS or node.op_type in _RECURRENT
        if node in before and mixes and any(_learns(v) for v in node.inputs[1:]):
            last = node
    return last


def _learns(value: ir.Value | None) -> bool:
    """Whether an input is a learnable, directly or behind operators that rearrange or unpack it."""
    while value is not None and not value.is_initializer():
        node = value.producer()
        if node is None or node.op_type not in (*_ARRANGE, "DequantizeLinear"):
            return False
        value = node.inputs[0]
    return value is not None and (role_of(value) == Role.LEARNABLE or bool(value.shape and len(value.shape) > 1))


def _readers(graph: ir.Graph, value: ir.Value) -> list[ir.Node]:
    """All nodes that depend on a value, in graph order."""
    reached: set[ir.Value] = {value}
    found: list[ir.Node] = []
    for node in graph:
        if any(v in reached for v in read_by(node)):
            found.append(node)
            reached.update(node.outputs)
    return found


def _file(model: Model) -> str | None:
    return model.source.files[0] if model.source.files else None
