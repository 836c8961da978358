"""Another head on a network: the last classifier made anew for other classes, or a new one on top of any layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from netferry.errors import MalformedFile, UnsupportedError, UsageError, quoted
from netferry.schemas.graph import CANONICAL_IR, CANONICAL_OPSET
from netferry.schemas.head import CLASSIFIERS, Ending, class_axis, ending_of, weight_of
from netferry.schemas.ir import ir
from netferry.schemas.labels import check_labels
from netferry.schemas.layers import ROLE, Role, layer_of, role_of, static_shape
from netferry.schemas.model import Model, Note
from netferry.schemas.new_head import TASKS, Values, put_head
from netferry.schemas.node_inference import NodeInference
from netferry.schemas.surgery import InsertionBuilder
from netferry.schemas.tensors import array_of, array_tensor

HEADS = ("linear", "mlp", "conv")
_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0, "PRelu": 0.25}


def with_head(
    model: Model,
    classes: Sequence[str] | int,
    *,
    at: str | None = None,
    kind: str = "linear",
    task: str = "classes",
    hidden: int = 256,
    seed: int = 0,
    output: str | None = None,
) -> Model:
    """Return a copy of the network that decides between other classes; the network itself stays as it is.

    By default the last classifier (convolution or dense) keeps its place and its names and gets new values of the new
    size; what follows it (activation, pool, softmax) stays. Everything else is bit-identical. A network that ends in
    features, and any network with ``at`` or another ``kind``, gets a new classifier with the layer name ``head``.

    New values are drawn as the source's framework does: Glorot's uniform for Keras, Caffe's xavier for Caffe, the
    uniform of torch's layers for the rest; biases are zero (torch: uniform).

    Args:
        model: the network.
        classes: their names, or how many.
        at: cut behind this layer and put the head there.
        kind: ``linear`` (pool, dense), ``mlp`` (pool, dense, ReLU, dropout, dense) or ``conv`` (1x1 convolution, pool).
        task: ``classes`` (softmax at the end), ``labels`` (sigmoid) or ``values`` (nothing). A classifier without a
            softmax keeps ending in logits.
        hidden: width of the mlp's hidden layer.
        seed: of the new values.
        output: which output; by default the one with labels, else the deepest.

    Raises:
        UsageError: no such layer, output, kind or task; classes that are no labels; a layer that gives no features.
        UnsupportedError: the end of the network cannot take another number of classes; ``at`` can be used then.
    """
    if kind not in HEADS or task not in TASKS:
        raise UsageError(f"a head is {', '.join(HEADS)} for {', '.join(TASKS)}, not {kind!r} for {task!r}")
    names = [f"class {i}" for i in range(classes)] if isinstance(classes, int) else check_labels(list(classes))
    if len(names) < 1 or len(set(names)) != len(names):
        raise UsageError(f"{len(names)} classes, {len(set(names))} of them different")
    made = model.copy()
    tell_shapes(made.graph)
    ending = ending_of(made, output)
    rng = Values(made, seed)
    if at is None and kind == "linear" and ending.classifier is not None:
        _resize(made, ending, len(names), rng)
        end = _finish(made, ending, task)
    else:
        end = put_head(made, ending, at, kind, len(names), task, hidden, rng)
    made.labels = {k: v for k, v in made.labels.items() if k in {o.name for o in made.graph.outputs}}
    made.labels[end.name or ""] = names
    made.tasks = {k: v for k, v in made.tasks.items() if k in made.labels and k != end.name}
    if task != "classes":
        made.tasks[end.name or ""] = task
    alive = set(made.graph.initializers)
    made.frozen &= alive
    made.lr_factors = {k: v for k, v in made.lr_factors.items() if k in alive}
    return made


# the same classifier for another number of classes --------------------------------------------------------------


def _resize(model: Model, ending: Ending, classes: int, values: Values) -> None:
    node, old = ending.classifier, ending.size
    weight = None if node is None else weight_of(node)
    if node is None or weight is None or old is None:
        raise UnsupportedError(f"the classifier has no fixed number of classes; {ending.why}", hint=_HINT)
    axis = class_axis(node)
    shape = list(static_shape(weight))
    fan_in = int(np.prod(shape)) // shape[axis]
    kernel = int(np.prod(shape[2:])) if node.op_type == "Conv" else 1
    shape[axis] = classes
    name = weight.name or ""
    _set_input(model, node, CLASSIFIERS[node.op_type], values.weight(name, shape, fan_in, classes * kernel))
    if len(node.inputs) > 2 and (bias := node.inputs[2]) is not None:
        _set_input(model, node, 2, _another(bias, old, classes, lambda n, s: values.bias(n, s, fan_in)))
    typed = _inference(model.graph)
    _infer(typed, node)
    for behind in ending.behind:
        _adapt(model, behind, old, classes, values, fan_in)
        _infer(typed, behind)
    shape_now = None if ending.output.shape is None else tuple(ending.output.shape)
    if shape_now is not None and classes not in shape_now:
        raise UnsupportedError(
            f"with {classes} classes the output {quoted(ending.output.name or '')} would be of shape {shape_now}",
            layer=layer_of(node)[0],
            hint=_HINT,
        )


_HINT = "--at LAYER (at=) puts a new head on top of a layer"


def _another(value: ir.Value, old: int, classes: int, make: Any) -> np.ndarray:
    shape = static_shape(value)
    if old not in shape:  # one value for all classes
        return np.asarray(make(value.name or "", shape), np.float32)
    place = len(shape) - 1 - shape[::-1].index(old)
    return np.asarray(make(value.name or "", [classes if i == place else d for i, d in enumerate(shape)]), np.float32)


def _adapt(model: Model, node: ir.Node, old: int, classes: int, values: Values, fan_in: int) -> None:
    """Make what a node behind the classifier holds per class anew: statistics, biases, sizes of reshapes."""
    for i, value in enumerate(node.inputs):
        if value is None or not value.is_initializer() or old not in (*static_shape(value), *_entries(value)):
            continue
        if node.op_type in ("Reshape", "Expand") and i == 1:
            dims = [classes if d == old else d for d in _entries(value)]
            _set_input(model, node, i, np.array(dims, np.int64))
        elif node.op_type == "BatchNormalization":
            start = 1.0 if i in (1, 4) else 0.0
            _set_input(model, node, i, np.full(classes, start, np.float32))
        elif node.op_type == "Add" and role_of(value) == Role.LEARNABLE:
            _set_input(model, node, i, _another(value, old, classes, lambda n, s: values.bias(n, s, fan_in)))
        elif node.op_type in _NEUTRAL and old in static_shape(value):
            neutral = _NEUTRAL[node.op_type]
            _set_input(model, node, i, _another(value, old, classes, lambda _n, s, v=neutral: np.full(s, v)))
            if role_of(value) == Role.CONSTANT:
                text = f"the constant {quoted(value.name or '')} was per class; it is {neutral:g} for all now"
                model.notes.append(Note("assumed", text, layer_of(node)[0]))


def _entries(value: ir.Value) -> list[int]:
    """The numbers of a small vector of sizes."""
    if value.dtype != ir.DataType.INT64 or len(static_shape(value)) != 1 or static_shape(value)[0] > 8:
        return []
    array = array_of(value)
    return [] if array is None else [int(v) for v in array]


def _set_input(model: Model, node: ir.Node, i: int, array: np.ndarray) -> None:
    """Give a node other values under the same name; whoever else reads the old ones keeps them."""
    old = node.inputs[i]
    if old is None:
        raise AssertionError("no such input")
    dtype = old.dtype
    tensor = array_tensor(array if dtype is None else array.astype(dtype.numpy()))
    name, graph = old.name or "", model.graph
    shared = len(list(old.uses())) > 1 or old.is_graph_output()
    if not shared:
        old.const_value, old.shape = tensor, ir.Shape(list(array.shape))
        tensor.name = name
        if old.is_graph_input():  # IR 3 lists initializers among the inputs
            graph.inputs.remove(old)
        return
    fresh = f"{name}.new"
    while fresh in graph.initializers:
        fresh += "_"
    tensor.name = fresh
    value = ir.Value(
        name=fresh, type=ir.TensorType(tensor.dtype), shape=ir.Shape(list(array.shape)), const_value=tensor
    )
    value.metadata_props[ROLE] = role_of(old).value
    graph.register_initializer(value)
    node.replace_input_with(i, value)


def _inference(graph: ir.Graph) -> NodeInference:
    return NodeInference({"": CANONICAL_OPSET, **graph.opset_imports}, CANONICAL_IR)


def tell_shapes(graph: ir.Graph) -> None:
    """Infer the shapes that a file leaves out; those that it gives stay."""
    typed = _inference(graph)
    for node in graph:
        if any(v.shape is None or v.type is None for v in node.outputs if v.name):
            known = [(v, v.type, v.shape) for v in node.outputs]
            with suppress(MalformedFile):
                _infer(typed, node)
            for value, kind, shape in known:
                value.type, value.shape = kind or value.type, shape or value.shape


def _infer(typed: NodeInference, node: ir.Node) -> None:
    """Shapes of a node's outputs anew; unknown where ONNX's inference cannot tell."""
    if node.domain in ("", "ai.onnx") and not any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        typed.tell(node)
    else:
        for value in node.outputs:
            value.shape = None


def _finish(model: Model, ending: Ending, task: str) -> ir.Value:
    """Give a resized classifier the activation that its task needs; one that ends in logits keeps so for classes."""
    wanted, node = TASKS[task], ending.activation
    if task != "classes":
        _without_bounds(model, ending)
    has = None if node is None else node.op_type
    if has == wanted or (task == "classes" and has in (None, "LogSoftmax")):
        return ending.output
    if node is None:  # several labels: probabilities, where predict would apply a softmax
        producer = ending.output.producer()
        builder = InsertionBuilder(model.graph, before=None)
        name = ending.output.name or "scores"
        ending.output.name = builder.unique(f"{name}_logits")
        with builder.layer("head/activation", wanted or ""):
            made = builder.op(wanted or "Identity", ending.output)
        made.name = name
        _set_output(model.graph, ending.output, made)
        assert producer is not None
        return made
    builder = InsertionBuilder(model.graph, before=node)
    rank = None if ending.logits.shape is None else len(ending.logits.shape)
    with builder.layer(*layer_of(node)):
        if wanted == "Softmax":
            made = builder.op("Softmax", ending.logits, axis=1 if rank == 4 else -1)
        else:
            made = builder.op(wanted or "Identity", ending.logits)
    was_output = node.outputs[0] is ending.output
    builder.replace(node, [made])
    return made if was_output else ending.output


def _without_bounds(model: Model, ending: Ending) -> None:
    """Take out rectifiers behind the classifier: a label that is absent, a value below zero need negative scores."""
    for node in ending.behind:
        if node.op_type in ("Relu", "Clip", "LeakyRelu") and node.outputs[0] is not ending.output and node.inputs[0]:
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            model.graph.remove(node, safe=True)
            text = f"{node.op_type} behind the classifier was taken out: scores may be negative"
            model.notes.append(Note("dropped", text, layer_of(node)[0]))
            if ending.logits is node.outputs[0]:
                ending.logits = node.inputs[0]


def _set_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    graph.outputs[list(graph.outputs).index(old)] = new
