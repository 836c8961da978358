"""Broken ONNX files: one node that contradicts its operator; with most, onnx's inference crashes or comes to no end."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from tests.attacks import unusual_onnx
from tests.attacks.making import Make, model

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _node(op: str, inputs: list[str], outputs: list[str] | None = None, opset: int = 0, **settings: Any) -> Make:
    """A node behind the linear network of unusual_onnx: ``y`` is its output, ``b`` a vector, ``w`` a matrix."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.node.append(helper.make_node(op, inputs, ["z"] if outputs is None else outputs, **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))
        if opset:
            m.opset_import[0].version = opset

    return model(change)


def _scan(count: int) -> Make:
    body = helper.make_graph(
        [helper.make_node("Identity", ["i"], ["o"])],
        "b",
        [unusual_onnx.info("i", None)],
        [unusual_onnx.info("o", None)],
    )
    return _node("Scan", ["y"], body=body, num_scan_inputs=count)


def _in_function(op: str, deep: int = 0, **settings: Any) -> Make:
    """A node in a function, or in one that others call, with settings that only the outermost call tells."""

    def change(m: onnx.ModelProto) -> None:
        m.opset_import[0].version = 18
        sets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        node = helper.make_node(op, ["a"], ["c"])
        for name in settings:
            node.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.INT)
        for i in range(deep + 1):
            inner = node if i == 0 else helper.make_node(f"f{i - 1}", ["a"], ["c"], domain="own")
            if i:
                inner.attribute.extend(node.attribute)
            m.functions.append(helper.make_function("own", f"f{i}", ["a"], ["c"], [inner], sets, list(settings)))
        m.opset_import.append(sets[1])
        m.graph.node.append(helper.make_node(f"f{deep}", ["y"], ["z"], domain="own", **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))

    return model(change)


def _calls_that_double(m: onnx.ModelProto) -> None:
    """Each of 18 functions calls the one before twice, with a setting of its own that says which: 2^18 ways."""
    names = [f"s{i}" for i in range(18)]
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    first = helper.make_node("Softmax", ["a"], ["c"])
    first.attribute.add(name="axis", ref_attr_name="s0", type=onnx.AttributeProto.INT)
    m.functions.append(helper.make_function("own", "f0", ["a"], ["c"], [first], sets, names))
    for i in range(1, 18):
        calls = [helper.make_node(f"f{i - 1}", [x], [y], domain="own") for x, y in ("ab", "bc")]
        for k, call in enumerate(calls):
            call.attribute.append(helper.make_attribute(names[i], k))
            for name in names[:i] + names[i + 1 :]:
                call.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.INT)
        m.functions.append(helper.make_function("own", f"f{i}", ["a"], ["c"], calls, sets, names))
    m.opset_import.append(sets[1])
    m.graph.node.append(helper.make_node("f17", ["y"], ["z"], domain="own"))
    m.graph.node[-1].attribute.extend(helper.make_attribute(name, 1) for name in names)
    m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))


CASES |= {
    "onnx-scan-of-2-billion-inputs": _scan(1 << 31),
    "onnx-scan-of-no-inputs": _scan(0),
    "onnx-axis-beyond-all": _node("Softmax", ["y"], axis=(1 << 63) - 1),
    "onnx-norm-of-an-axis-beyond-all": _node("LayerNormalization", ["y", "b"], axis=(1 << 63) - 1),
    "onnx-equation-of-nothing": _node("Einsum", ["y", "y"], equation="\0"),
    "onnx-equation-of-other-letters": _node("Einsum", ["y"], equation="é->é"),
    "onnx-batch-axes-below-0": _node("GatherND", ["y", "b"], batch_dims=-(1 << 31)),
    "onnx-split-into-trillions": _node("Split", ["y"], opset=18, num_outputs=1 << 62),
    "onnx-cast-to-type-100": _node("Cast", ["y"], to=100),
    "onnx-random-of-type-minus-1": _node("RandomNormalLike", ["y"], dtype=-1),
    "onnx-needed-input-left-out": _node("Gather", ["", "b"]),
    "onnx-needed-output-left-out": _node("Softmax", ["y"], [""]),
    "onnx-concat-of-nothing": _node("Concat", [""], axis=0),
    "onnx-split-into-fewer-than-it-has-outputs": _node("Split", ["y"], ["z", "u", "v"], opset=18, num_outputs=2),
    "onnx-norm-in-type-100": _node("LayerNormalization", ["y", "b"], opset=17, stash_type=100),
    "onnx-norm-in-type-2-billion": _node("LayerNormalization", ["y", "b"], opset=17, stash_type=1 << 31),
    "onnx-strides-of-quintillions": _node("MaxPool", ["y"], kernel_shape=[1], strides=[1 << 62]),
    "onnx-pads-of-quintillions": _node("AveragePool", ["y"], kernel_shape=[1], pads=[-(1 << 62), 1 << 62]),
    "onnx-axes-of-quintillions": _node("ReduceMax", ["y"], axes=[(1 << 63) - 1]),
    "onnx-axes-in-an-order-of-quintillions": _node("Transpose", ["y"], perm=[0, 1 << 62]),
    "onnx-later-operator-without-its-output": _node("HardSwish", ["y"], [""], opset=11),
    "onnx-later-operator-of-three-inputs": _node("HardSwish", ["y", "y", "y"], opset=11),
    "onnx-function-given-trillions": _in_function("Split", num_outputs=1 << 62),
    "onnx-function-in-functions-given-trillions": _in_function(
        "Split", deep=3, num_outputs=1 << 62
    ),
    "onnx-function-given-type-100": _in_function("Cast", to=100),
    "onnx-functions-given-settings-that-double": model(_calls_that_double),
    "onnx-stft-of-a-vector": _node("STFT", ["b", "b"], opset=17),
}  # fmt: skip
