"""Models of one or some nodes of random operators, whose inputs, outputs and settings contradict them more often than not."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from netferry.converters.onnx.sound import check_message
from netferry.converters.options import Limits
from netferry.errors import NetferryError

_INTS = [0, 1, 2, 3, -1, -2, 4, 5, 7, 16, 100, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, -(2**62), 2**63 - 1]
_FLOATS = [0.0, 1.0, -1.0, 1e-5, 0.5, 1e30, float("inf"), float("nan")]
_WORDS = ["", "NONE", "SUM", "constant", "reflect", "SAME_UPPER", "VALID", "NOTSET", "linear", "nearest", "LEAF", "sum",
          "BRANCH_LEQ", "ij,jk->ik", "i...,...j->ij", "bidirectional", "Tanh", "DCR", "\0", "é" * 30]  # fmt: skip
_SHAPES: list[list[int | str] | None] = [
    [2, 3], ["N", 4], [1, 3, 5, 5], ["N", 3, 8, 8], [], [0], [3], [2, 0, 3], [1, 1, 1], None, ["N", 2, 6], [7, 1],
]  # fmt: skip
_TYPES = [TensorProto.FLOAT] * 6 + [TensorProto.INT64] * 2 + [
    TensorProto.INT32, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.STRING,
    TensorProto.INT8,
]  # fmt: skip
_ARRAYS = [np.float32, np.float32, np.int64, np.int64, np.int32, np.float64, np.bool_, np.uint8]
_KINDS = [AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS, AttributeProto.FLOATS,
          AttributeProto.STRINGS, AttributeProto.TENSOR]  # fmt: skip
_OPERATORS = [s for s in onnx.defs.get_all_schemas() if s.domain in ("", "ai.onnx.ml") and not s.deprecated]


def random_model(seed: int) -> onnx.ModelProto:
    """The model of a seed."""
    rng = random.Random(seed)
    schema = rng.choice(_OPERATORS)
    few = rng.randint(schema.min_input, min(schema.max_input, schema.min_input + 4))
    count = few if rng.random() < 0.9 else rng.randint(0, 6)
    names = ["" if rng.random() < 0.08 else f"x{i}" for i in range(count)]
    given = [name for name in names if name]
    weights = [_weight(rng, name) for i, name in enumerate(given) if i and rng.random() < 0.6]
    held = {w.name for w in weights}
    inputs = [helper.make_tensor_value_info(n, rng.choice(_TYPES), rng.choice(_SHAPES)) for n in given if n not in held]
    made = rng.randint(schema.min_output, min(schema.max_output, schema.min_output + 2))
    made = max(1, made if rng.random() < 0.9 else rng.randint(1, 4))
    node = onnx.NodeProto(op_type=schema.name, domain=schema.domain, input=names)
    node.output.extend(f"y{i}" if rng.random() < 0.95 else "" for i in range(made))
    for name, attribute in schema.attributes.items():
        if attribute.required or rng.random() < 0.5:
            own: Any = attribute.type
            node.attribute.append(_attribute(rng, name, int(own.value) if rng.random() < 0.93 else rng.choice(_KINDS)))
    kinds = [TensorProto.FLOAT] * 5 + [TensorProto.INT64, TensorProto.BOOL]
    outputs = [helper.make_tensor_value_info(n, rng.choice(kinds), rng.choice(_SHAPES)) for n in node.output if n]
    outputs = outputs or [helper.make_tensor_value_info("x0", TensorProto.FLOAT, None)]
    sets = [("", rng.choice([21, 21, 24, 18, 17, 13, 11, 9, 7])), ("ai.onnx.ml", rng.choice([1, 3, 5]))]
    imports = [helper.make_opsetid(domain, version) for domain, version in sets]
    return helper.make_model(
        helper.make_graph([node], "g", inputs, outputs, weights), opset_imports=imports, ir_version=rng.choice([8, 10])
    )


def random_chain(seed: int) -> onnx.ModelProto:
    """The model of a seed: up to four nodes that could be read alone, which read one another; some lie in functions."""
    rng = random.Random(seed)
    version, wired, hidden = random_model(rng.randrange(10**9)), rng.choice([0.1, 0.5, 0.8]), rng.choice([0.0, 0.5])
    sets = [*version.opset_import, helper.make_opsetid("own", 1)]
    graph, made = onnx.GraphProto(name="g"), list[str]()
    functions: list[onnx.FunctionProto] = []
    for k in range(rng.choice([1, 2, 3, 4])):
        part = _readable(rng, sets)
        names = {}
        for value in (*part.input, *part.initializer):
            if made and rng.random() < wired:
                names[value.name] = rng.choice(made)
                continue
            names[value.name] = value.name = f"{value.name}_{k}"
        graph.input.extend(value for value in part.input if value.name in names.values())
        graph.initializer.extend(value for value in part.initializer if value.name in names.values())
        node = part.node[0]
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [name and f"{name}_{k}" for name in node.output]
        made += [name for name in node.output if name]
        if rng.random() < hidden:
            functions.append(_in_a_function(rng, node, sets, k))
        graph.node.append(node)
    for name in rng.sample(made, min(2, len(made))) or ["x0_0"]:
        graph.output.append(helper.make_tensor_value_info(name, rng.choice([0, 1, 7]), rng.choice(_SHAPES)))
    return helper.make_model(graph, opset_imports=sets, ir_version=version.ir_version, functions=functions)


def _readable(rng: random.Random, sets: list[onnx.OperatorSetIdProto]) -> onnx.GraphProto:
    """A random node that the reader finds nothing wrong with by itself; now and then just one."""
    while True:
        model = random_model(rng.randrange(10**9))
        del model.opset_import[:]
        model.opset_import.extend(sets)
        try:
            if rng.random() > 0.02:
                check_message(model, Limits())
        except NetferryError:
            continue
        return model.graph


def _in_a_function(
    rng: random.Random, node: onnx.NodeProto, sets: list[onnx.OperatorSetIdProto], number: int
) -> onnx.FunctionProto:
    """Put a node into a function, most of its settings given by the call that stands in its place."""
    inner, kept = onnx.NodeProto(), list[onnx.AttributeProto]()
    inner.CopyFrom(node)
    for attribute in inner.attribute:
        if rng.random() < 0.8:
            given = _attribute(rng, attribute.name, attribute.type) if rng.random() < 0.1 else onnx.AttributeProto()
            kept.append(given if given.name else onnx.AttributeProto.FromString(attribute.SerializeToString()))
            name, kind = attribute.name, attribute.type
            attribute.Clear()
            attribute.MergeFrom(onnx.AttributeProto(name=name, type=kind, ref_attr_name=name))
    inputs, outputs = ([n for n in dict.fromkeys(names) if n] for names in (node.input, node.output))
    function = helper.make_function("own", f"f{number}", inputs, outputs, [inner], sets, [a.name for a in kept])
    node.CopyFrom(onnx.NodeProto(op_type=function.name, domain="own", input=inputs, output=outputs, attribute=kept))
    return function


def _weight(rng: random.Random, name: str) -> onnx.TensorProto:
    shape = [d if isinstance(d, int) else 2 for d in (rng.choice(_SHAPES) or [1])]
    numbers = [rng.choice([0, 1, 2, 3, -1, -2, 5]) for _ in range(int(np.prod(shape)))]
    return numpy_helper.from_array(np.array(numbers).astype(rng.choice(_ARRAYS)).reshape(shape), name)


def _attribute(rng: random.Random, name: str, kind: int) -> onnx.AttributeProto:
    count = rng.choice([0, 1, 2, 2, 3, 4, 8])
    made = onnx.AttributeProto(name=name, type=kind)  # pyright: ignore[reportArgumentType]
    if kind == AttributeProto.INT:
        made.i = rng.choice(_INTS)
    elif kind == AttributeProto.FLOAT:
        made.f = rng.choice(_FLOATS)
    elif kind == AttributeProto.STRING:
        made.s = rng.choice(_WORDS).encode()
    elif kind == AttributeProto.INTS:
        made.ints.extend(
            rng.choice([0, 1, 1, 2, 3, -1]) if rng.random() < 0.8 else rng.choice(_INTS) for _ in range(count)
        )
    elif kind == AttributeProto.FLOATS:
        made.floats.extend(rng.choice(_FLOATS) for _ in range(count))
    elif kind == AttributeProto.STRINGS:
        made.strings.extend(rng.choice(_WORDS).encode() for _ in range(count))
    elif kind == AttributeProto.TENSOR:
        array = np.array([rng.choice([0, 1, 2, 3]) for _ in range(count)], rng.choice([np.float32, np.int64, np.uint8]))
        made.t.CopyFrom(numpy_helper.from_array(array.reshape(rng.choice([(count,), (1, count), (count, 1)]))))
    elif kind == AttributeProto.GRAPH:
        read = helper.make_node("Identity", [rng.choice(["i0", "x0", "zz"])], ["o"])
        inputs = [helper.make_tensor_value_info("i0", TensorProto.FLOAT, None)] if rng.random() < 0.5 else []
        output = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        made.g.CopyFrom(helper.make_graph([read], "b", inputs, [output]))
    return made
