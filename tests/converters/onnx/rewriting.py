"""Rewritings of ONNX models that leave what they compute as it is, to be composed at random.

A rewriting is a function that changes a :class:`Case` in place, choosing by a seeded generator. Those of the graph come
first, then those of tensors and files, last one of the bytes; each step has a seed of its own, so that a failing
composition stays as it is when steps are left out of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

Rewrite = Callable[["Case", random.Random], None]
GRAPH: dict[str, Rewrite] = {}
"""rewritings of nodes, names and declarations"""
DATA: dict[str, Rewrite] = {}
"""rewritings of tensors and what lies around the graph; nodes may be out of order afterwards"""
BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {}
"""rewritings of a serialised model"""

ODD_NAMES = [
    "a/b:0", "leer zeichen", "重み", "β\n\t", "Relu", "Constant", "class", "None", "lambda", "__init__", "self",
    "x.y.z", "'quoted'", '"quoted"', "back\\slash", "{}", "{0!r}", "%s%n", "$(x)", "<b>&amp;", "1", "-1", "ai.onnx",
    "com.microsoft", "onnx::MatMul_1", "😀", "\u202eleft", ".", "..", "/", "//a//", "netferry.layer", "weight",
    "conv1.weight", "layer1.0.conv1", "batch", "NaN", "é", "e\u0301", "n" * 5000, "/model/layer/MatMul", "a,b;c",
    "StatefulPartitionedCall/model/conv/Conv2D", "[0]", "true", "if", "input", "output", " ", "\x1b[31m",
    "x@output", "y@source", "C:\\net", "#", "?", "*",
]  # fmt: skip
ODD_DIMS = [
    "N",
    "größe / 2 * (n+1)",
    "batch size",
    "-1",
    "?",
    "None",
    "unk__12",
    "*",
    "1",
    "x",
    "batch",
    "N" * 300,
    "é",
]


@dataclass
class Case:
    """A model with what it is fed, and the folder in which its file and its data files lie."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    folder: Path
    content: bytes = b""
    steps: list[str] = field(default_factory=list)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph

    @property
    def opset(self) -> int:
        return next(o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx"))

    def fresh(self, wish: str) -> str:
        """A name that nothing has yet."""
        taken, name, number = names(self.model), wish, 0
        while name in taken or not name:
            number += 1
            name = f"{wish}_{number}"
        return name

    def types(self) -> dict[str, onnx.TypeProto]:
        """Types and shapes of values of the main graph, as far as onnx infers them."""
        found = {t.name: helper.make_tensor_type_proto(t.data_type, t.dims) for t in self.graph.initializer}
        try:
            graph = onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:
            graph = self.graph
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.WhichOneof("value"):
                found.setdefault(value.name, value.type)
        return found

    def write(self) -> Path:
        path = self.folder / "net.onnx"
        path.write_bytes(self.content or self.model.SerializeToString())
        return path


def rewrite(table: dict[str, Any]) -> Callable[[Any], Any]:
    """Register a rewriting under its function's name."""

    def registered(function: Any) -> Any:
        table[function.__name__] = function
        return function

    return registered


def compose(case: Case, steps: list[tuple[str, int]]) -> Case:
    """Apply rewritings, each by its name and seed, in the order graph, data, bytes."""
    for table in (GRAPH, DATA):
        for name, seed in steps:
            if name in table:
                table[name](case, random.Random(seed))
    for name, seed in steps:
        if name in BYTES:
            case.content = BYTES[name](case.content or case.model.SerializeToString(), random.Random(seed))
    return case


def steps_of(seed: int) -> list[tuple[str, int]]:
    """A random composition: a few rewritings of each kind."""
    rng = random.Random(seed)
    chosen = [
        *rng.choices(list(GRAPH), k=rng.choice([0, 1, 1, 2, 3, 5])),
        *rng.choices(list(DATA), k=rng.choice([0, 1, 1, 2, 4])),
        *rng.choices(list(BYTES), k=rng.choice([0, 0, 1])),
    ]
    return [(name, rng.randrange(1 << 30)) for name in chosen]


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """All graphs of a model, the main one first, those in functions last."""
    pending: list[Any] = [model.graph]
    yield model.graph
    pending += model.functions
    while pending:
        for node in pending.pop().node:
            for attribute in node.attribute:
                for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                    yield graph
                    pending.append(graph)


def holders(model: onnx.ModelProto) -> Iterator[Any]:
    """Whatever holds nodes: graphs and functions."""
    yield from graphs(model)
    yield from model.functions


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Dense tensors: initializers and values of Constant nodes, at every depth."""
    for graph in graphs(model):
        yield from graph.initializer
    for holder in holders(model):
        for node in holder.node:
            if node.op_type == "Constant":
                yield from (a.t for a in node.attribute if a.name == "value" and not a.ref_attr_name)


def names(model: onnx.ModelProto) -> set[str]:
    """All names of values, at every depth."""
    found: set[str] = set()
    for graph in graphs(model):
        found |= {v.name for v in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)}
        found |= {t.values.name for t in graph.sparse_initializer}
    for function in model.functions:
        found |= {*function.input, *function.output}
    for holder in holders(model):
        for node in holder.node:
            found |= {*node.input, *node.output}
    return found


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values that a node reads from where it stands, in its subgraphs too."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
            own = {v.name for v in (*graph.input, *graph.initializer)} | {
                t.values.name for t in graph.sparse_initializer
            }
            own |= {name for n in graph.node for name in n.output}
            inner = [name for n in graph.node for name in reads(n)] + [v.name for v in graph.output]
            found += [name for name in inner if name not in own]
    return list(dict.fromkeys(found))
