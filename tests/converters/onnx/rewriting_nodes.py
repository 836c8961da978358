"""Rewritings of ONNX graphs: names, declarations, and nodes that change nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper, numpy_helper

from tests.converters.onnx.rewriting import GRAPH, ODD_DIMS, ODD_NAMES, Case, graphs, holders, names, rewrite

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@rewrite(GRAPH)
def values_renamed(case: Case, rng: random.Random) -> None:
    """Any value, at any depth; what the model is fed by goes with it."""
    within = {
        n for f in case.model.functions for n in (*f.input, *f.output, *(o for node in f.node for o in node.output))
    }
    old = sorted(n for n in names(case.model) - within if n)
    new: dict[str, str] = {}
    taken = set(names(case.model))
    for name in old:
        if rng.random() < 0.5:
            wish, number = rng.choice(ODD_NAMES), 0
            while (wish if not number else f"{wish}{number}") in taken:
                number += 1
            new[name] = wish if not number else f"{wish}{number}"
            taken.add(new[name])
    for graph in graphs(case.model):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = new.get(value.name, value.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = new.get(sparse.values.name, sparse.values.name)
        for node in graph.node:
            for listed in (node.input, node.output):
                for i, name in enumerate(listed):
                    listed[i] = new.get(name, name)
    case.feeds = {new.get(name, name): value for name, value in case.feeds.items()}


@rewrite(GRAPH)
def nodes_renamed(case: Case, rng: random.Random) -> None:
    """Without names, of one name, of odd names, of the names of values."""
    for holder in holders(case.model):
        way = rng.choice(["none", "same", "odd", "output", "mixed"])
        for node in holder.node:
            choices = {
                "none": "",
                "same": "same",
                "odd": rng.choice(ODD_NAMES),
                "output": next((o for o in node.output if o), ""),
            }
            node.name = choices[way if way != "mixed" else rng.choice(list(choices))]
            if not node.name:
                node.ClearField("name")
    for graph in graphs(case.model):
        graph.name = rng.choice(ODD_NAMES)


@rewrite(GRAPH)
def domain_by_either_name(case: Case, rng: random.Random) -> None:
    for holder in (case.model, *case.model.functions):
        for opset in holder.opset_import:
            if opset.domain in ("", "ai.onnx"):
                opset.domain = rng.choice(["", "ai.onnx"])
    for holder in holders(case.model):
        for node in holder.node:
            if node.domain in ("", "ai.onnx"):
                node.domain = rng.choice(["", "ai.onnx"])


@rewrite(GRAPH)
def declarations(case: Case, rng: random.Random) -> None:
    """value_info: none, some, all, or with names for sizes that are known to onnx."""
    try:
        inferred = onnx.shape_inference.infer_shapes(case.model).graph.value_info
    except Exception:
        return
    del case.graph.value_info[:]
    way = rng.choice(["none", "some", "all", "named", "typeonly"])
    for value in inferred:
        if way == "none" or (way == "some" and rng.random() < 0.5) or value.type.WhichOneof("value") != "tensor_type":
            continue
        case.graph.value_info.append(value)
        told = case.graph.value_info[-1].type.tensor_type
        if way == "typeonly":
            told.ClearField("shape")
        for i, dim in enumerate(told.shape.dim if way == "named" else []):
            if rng.random() < 0.5:
                dim.dim_param = f"{rng.choice(ODD_DIMS)}_{value.name[:20]}_{i}"


@rewrite(GRAPH)
def sizes_renamed(case: Case, rng: random.Random) -> None:
    """Free sizes of inputs and outputs by other names, shared where they were, or by none."""
    new: dict[str, str] = {}
    for value in (*case.graph.input, *case.graph.output, *case.graph.value_info):
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                left = [d for d in ODD_DIMS if d not in new.values()] + ["", ""]
                dim.dim_param = new.setdefault(dim.dim_param, rng.choice(left))
                if not dim.dim_param and rng.random() < 0.7:
                    dim.ClearField("dim_param")


@rewrite(GRAPH)
def shapes_of_outputs_unknown(case: Case, rng: random.Random) -> None:
    """Outputs without a shape, or with sizes that are free though they are known."""
    for value in case.graph.output:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        if rng.random() < 0.3:
            value.type.tensor_type.ClearField("shape")
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            if rng.random() < 0.5:
                dim.Clear()
                if rng.random() < 0.5:
                    dim.dim_param = f"out{i}"


def spliced(case: Case, rng: random.Random, wanted: Callable[[onnx.TypeProto], bool], make: Callable[..., Any]) -> None:
    """Put nodes between a value of the main graph and those that read it.

    ``make(source, target, type)`` returns the nodes; initializers are added by itself.
    """
    types = case.types()
    fitting = [n for n, t in sorted(types.items()) if wanted(t) and n in _makeable(case)]
    if not fitting:
        return
    name = rng.choice(fitting)
    outputs, fed = [v.name for v in case.graph.output], [v.name for v in case.graph.input]
    held = {t.name for t in case.graph.initializer}
    if name in outputs and name not in fed and name not in held:
        source, target = case.fresh("before"), name
        at = next(i for i, node in enumerate(case.graph.node) if name in node.output)
        for i, other in enumerate(case.graph.node[at].output):
            if other == name:
                case.graph.node[at].output[i] = source
        _reads_instead(case.graph, name, rng.choice([source, name]))
        nodes, at = make(source, target, types[name]), at + 1
    else:
        source, target = name, case.fresh("after")
        _reads_instead(case.graph, name, target)
        nodes = make(source, target, types[name])
        at = next((i + 1 for i, node in enumerate(case.graph.node) if name in node.output), 0)
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in case.graph.node]
    del case.graph.node[:]
    case.graph.node.extend([*kept[:at], *nodes, *kept[at:]])


def _makeable(case: Case) -> set[str]:
    made = {o for node in case.graph.node for o in node.output if o}
    return made | {v.name for v in case.graph.input} | {t.name for t in case.graph.initializer}


def _reads_instead(holder: Any, old: str, new: str) -> None:
    """Let nodes read another value, in their subgraphs too (where no inner value has the name)."""
    for node in holder.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                own = {v.name for v in (*graph.input, *graph.initializer)} | {o for n in graph.node for o in n.output}
                if old in own:
                    continue
                _reads_instead(graph, old, new)
                for value in graph.output:
                    if value.name == old:
                        value.name = new


_ALL = tuple(range(1, TensorProto.BFLOAT16 + 1))
"""element types that all operators take which only move data"""


def _tensor(kinds: tuple[int, ...] = _ALL) -> Callable[[onnx.TypeProto], bool]:
    return lambda kind: kind.WhichOneof("value") == "tensor_type" and kind.tensor_type.elem_type in kinds


def _ranked(kind: onnx.TypeProto) -> bool:
    return _tensor()(kind) and kind.tensor_type.HasField("shape")


@rewrite(GRAPH)
def identities(case: Case, rng: random.Random) -> None:
    def chain(source: str, target: str, _: object) -> list[onnx.NodeProto]:
        middle = [case.fresh(f"id{i}") for i in range(rng.randint(0, 2))]
        stops = [source, *middle, target]
        return [helper.make_node("Identity", [a], [b]) for a, b in pairwise(stops)]

    spliced(case, rng, _tensor(), chain)


@rewrite(GRAPH)
def dropout(case: Case, rng: random.Random) -> None:
    def drop(source: str, target: str, _: object) -> list[onnx.NodeProto]:
        if case.opset < 12:
            return [helper.make_node("Dropout", [source], rng.choice([[target], [target, ""]]), ratio=0.5)]
        ratio, training = case.fresh("ratio"), case.fresh("training")
        inputs = rng.choice(
            [[source], [source, ratio], [source, ratio, ""], [source, "", training], [source, ratio, training]]
        )
        if ratio in inputs:
            case.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), ratio))
        if training in inputs:
            case.graph.initializer.append(numpy_helper.from_array(np.array(False), training))
        return [helper.make_node("Dropout", inputs, rng.choice([[target], [target, case.fresh("mask")]]))]

    if case.opset >= 7:
        spliced(case, rng, _tensor(_FLOATS), drop)


@rewrite(GRAPH)
def casts(case: Case, rng: random.Random) -> None:
    wider: dict[int, int] = {
        TensorProto.FLOAT: TensorProto.DOUBLE, TensorProto.FLOAT16: TensorProto.FLOAT,
        TensorProto.INT32: TensorProto.INT64,
        TensorProto.INT8: TensorProto.INT32, TensorProto.UINT8: TensorProto.INT16, TensorProto.BOOL: TensorProto.INT32,
    }  # fmt: skip

    def there_and_back(source: str, target: str, kind: onnx.TypeProto) -> list[onnx.NodeProto]:
        element, middle, same = kind.tensor_type.elem_type, case.fresh("wide"), case.fresh("wide_too")
        return [
            helper.make_node("Cast", [source], [middle], to=wider[element]),
            # onnxruntime 1.31 takes two casts in a row for one even where a branch reads what they make
            helper.make_node("Identity", [middle], [same]),
            helper.make_node("Cast", [same], [target], to=element),
        ]

    if case.opset >= 9:
        spliced(case, rng, _tensor(tuple(wider)), there_and_back)


@rewrite(GRAPH)
def transposes(case: Case, rng: random.Random) -> None:
    def turned(source: str, target: str, kind: onnx.TypeProto) -> list[onnx.NodeProto]:
        perm = list(range(len(kind.tensor_type.shape.dim)))
        rng.shuffle(perm)
        back = [perm.index(i) for i in range(len(perm))]
        middle = case.fresh("turned")
        there = helper.make_node("Transpose", [source], [middle], perm=perm)
        return [there, helper.make_node("Transpose", [middle], [target], perm=back)]

    spliced(case, rng, lambda t: _ranked(t) and len(t.tensor_type.shape.dim) > 1, turned)


@rewrite(GRAPH)
def same_shape(case: Case, rng: random.Random) -> None:
    """Reshape or Expand to its own shape, Concat of one, Unsqueeze and Squeeze, Slice and Pad of nothing."""

    def held(name: str, values: Any) -> str:
        name = case.fresh(name)
        case.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
        return name

    def form(source: str, target: str, kind: onnx.TypeProto) -> list[onnx.NodeProto]:
        rank, middle = len(kind.tensor_type.shape.dim), case.fresh("middle")
        own = [helper.make_node("Shape", [source], [middle])]
        ways: list[Callable[[], list[onnx.NodeProto]]] = [
            lambda: [*own, helper.make_node("Expand", [source, middle], [target])],
            lambda: [helper.make_node("Concat", [source], [target], axis=rng.choice([0, -1]))],
            lambda: [helper.make_node("Unsqueeze", [source, held("axes", [0])], [middle]),
                     helper.make_node("Squeeze", [middle, held("axes", [0])], [target])],
            lambda: [helper.make_node("Slice", [source, held("from", [0]), held("to", [1 << 62]), *rng.choice(
                [[], [""], [held("axes", [0])], ["", held("step", [1])], ["", ""]])], [target])],
            lambda: [helper.make_node("Split", [source, held("split", [int(kind.tensor_type.shape.dim[-1].dim_value)])],
                                      [target], axis=-1)],
        ]  # fmt: skip
        if not rank or not kind.tensor_type.shape.dim[-1].dim_value:
            ways.pop()
        return rng.choice(ways if rank else ways[2:3])()

    if case.opset >= 13:
        spliced(case, rng, _ranked, form)


@rewrite(GRAPH)
def inputs_left_out_by_name(case: Case, rng: random.Random) -> None:
    """Optional inputs and outputs at the end that are there, but empty."""
    for holder in holders(case.model):
        for node in holder.node:
            if node.domain not in ("", "ai.onnx") or rng.random() < 0.5:
                continue
            schema = onnx.defs.get_schema(node.op_type, case.opset, "")
            optional = onnx.defs.OpSchema.FormalParameterOption.Optional
            for listed, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
                while len(listed) < len(formal) and formal[len(listed)].option == optional and rng.random() < 0.7:
                    listed.append("")
