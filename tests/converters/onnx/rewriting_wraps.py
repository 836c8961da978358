"""Rewritings of ONNX graphs: nodes moved into functions, branches and loops."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.defs
from onnx import TensorProto, helper, numpy_helper

from tests.converters.onnx.rewriting import GRAPH, ODD_NAMES, Case, reads, rewrite

Node = onnx.NodeProto


@dataclass
class Segment:
    """Nodes of the main graph one after the other, what they read from outside, and what is read of them there."""

    start: int
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]


def segment(case: Case, rng: random.Random) -> Segment | None:
    nodes = list(case.graph.node)
    if not nodes:
        return None
    start = rng.randrange(len(nodes))
    stop = rng.randint(start + 1, min(len(nodes), start + rng.choice([1, 2, 4, 100])))
    part = [Node.FromString(n.SerializeToString()) for n in nodes[start:stop]]
    made = [name for node in part for name in node.output if name]
    wanted = {name for node in (*nodes[:start], *nodes[stop:]) for name in reads(node)} | {
        v.name for v in case.graph.output
    }
    inputs = [name for node in part for name in reads(node) if name not in made]
    outputs = [name for name in made if name in wanted]
    return Segment(start, part, list(dict.fromkeys(inputs)), outputs) if outputs else None


def replace(case: Case, part: Segment, nodes: list[Node]) -> None:
    kept = [Node.FromString(n.SerializeToString()) for n in case.graph.node]
    del case.graph.node[:]
    case.graph.node.extend([*kept[: part.start], *nodes, *kept[part.start + len(part.nodes) :]])


def renamed(nodes: list[Node], new: dict[str, str]) -> list[Node]:
    """Copies of nodes whose values have other names, in subgraphs too."""
    out = []
    for node in nodes:
        copy = Node.FromString(node.SerializeToString())
        for listed in (copy.input, copy.output):
            for i, name in enumerate(listed):
                listed[i] = new.get(name, name)
        for attribute in copy.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                own = {v.name for v in (*graph.input, *graph.initializer)} | {o for n in graph.node for o in n.output}
                inner = {old: name for old, name in new.items() if old not in own}
                inside = renamed(list(graph.node), inner)
                del graph.node[:]
                graph.node.extend(inside)
                for value in graph.output:
                    value.name = inner.get(value.name, value.name)
        out.append(copy)
    return out


def inner_names(case: Case, part: Segment, rng: random.Random, *, keep_outputs: bool = False) -> dict[str, str]:
    """New names for the values that the segment makes, odd ones among them."""
    new: dict[str, str] = {}
    for node in part.nodes:
        for name in node.output:
            if name and not (keep_outputs and name in part.outputs):
                wish = rng.choice([name, f"{name}_in", rng.choice(ODD_NAMES)])
                new[name] = (
                    wish
                    if wish not in new.values() and case.fresh(wish) == wish
                    else case.fresh(f"{name}_in{len(new)}")
                )
    return new


@rewrite(GRAPH)
def into_a_function(case: Case, rng: random.Random) -> None:
    """A model-local function; settings of its nodes may come from its caller, its opset may be an older one."""
    part = segment(case, rng)
    if part is None or any(node.overload for node in part.nodes):
        return  # neither onnx nor onnxruntime finds the overload of a function in a function
    case.model.ir_version = max(case.model.ir_version, 10 if rng.random() < 0.3 else 8)
    new = {
        name: case.fresh(f"v{i}")
        for i, name in enumerate([*part.inputs, *dict.fromkeys(o for n in part.nodes for o in n.output if o)])
    }
    plain = not any(a.HasField("g") for n in part.nodes for a in n.attribute)
    if plain and rng.random() < 0.3:  # names that mean something else outside
        new = dict(zip(new, rng.sample(list(new), len(new)), strict=True))
    body = renamed(part.nodes, new)
    given: dict[str, onnx.AttributeProto] = {}
    defaults: list[onnx.AttributeProto] = []
    simple = (onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS,
              onnx.AttributeProto.STRING, onnx.AttributeProto.TENSOR)  # fmt: skip
    for node in body:
        for attribute in node.attribute:
            if attribute.type not in simple or rng.random() < 0.5:
                continue
            name = f"{attribute.name}_{len(given) + len(defaults)}"
            setting = onnx.AttributeProto.FromString(attribute.SerializeToString())
            setting.name = name
            way = rng.choice(["given", "default", "both"])
            if way != "default":
                given[name] = setting
            if way != "given":
                defaults.append(setting)
            bare = onnx.AttributeProto(name=attribute.name, type=attribute.type, ref_attr_name=name)
            attribute.CopyFrom(bare)
    domain, wish = rng.choice(["own", "größe.x", "own"]), rng.choice(["f", "Relu", "class", "a/b", "é"])
    taken = {(f.domain, f.name) for f in case.model.functions}
    name = next(n for n in (wish, *(f"{wish}{i}" for i in range(99))) if (domain, n) not in taken)
    imports = [onnx.OperatorSetIdProto.FromString(o.SerializeToString()) for o in case.model.opset_import]
    if domain not in [o.domain for o in imports]:
        case.model.opset_import.append(helper.make_opsetid(domain, 1))
        imports.append(helper.make_opsetid(domain, 1))
    older = case.opset - rng.randint(0, 3)
    if _same_at(body, case.opset, older):
        for opset in imports:
            if opset.domain in ("", "ai.onnx"):
                opset.version = older
    body_inputs, body_outputs = [new[i] for i in part.inputs], [new[o] for o in part.outputs]
    given_only = [n for n in given if n not in {d.name for d in defaults}]
    function = helper.make_function(domain, name, body_inputs, body_outputs, body, imports, given_only, defaults)
    call = helper.make_node(name, part.inputs, part.outputs, domain=domain)
    call.attribute.extend(given.values())
    if case.model.ir_version >= 10 and rng.random() < 0.5:
        function.overload = call.overload = rng.choice(["other", "ü"])
    case.model.functions.insert(rng.randint(0, len(case.model.functions)), function)
    replace(case, part, [call])


def _same_at(nodes: list[Node], opset: int, older: int) -> bool:
    """Whether operators are the same at an older opset."""
    for node in nodes:
        if any(a.HasField("g") for a in node.attribute):
            return False
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            versions = {onnx.defs.get_schema(node.op_type, v, "").since_version for v in (opset, older)}
        except onnx.defs.SchemaError:
            return False
        if len(versions) > 1:
            return False
    return True


def declared(case: Case, names: list[str], new: dict[str, str], rng: random.Random) -> list[onnx.ValueInfoProto] | None:
    """Declarations of values under new names: with their types, and their shapes or none."""
    types, found = case.types(), []
    for name in names:
        if name not in types:
            return None
        value = onnx.ValueInfoProto(name=new.get(name, name), type=types[name])
        if value.type.WhichOneof("value") == "tensor_type" and rng.random() < 0.5:
            value.type.tensor_type.ClearField("shape")
        found.append(value)
    return found


def _flag(case: Case, rng: random.Random, value: bool, ranked: bool = False) -> tuple[str, list[Node]]:
    """A condition: an initializer, a Constant, or computed from an input."""
    name, way = case.fresh("cond"), rng.choice(["initializer", "constant", "computed"])
    tensor = numpy_helper.from_array(np.array([value] if ranked and rng.random() < 0.3 else value), name)
    fed = [v.name for v in case.graph.input if v.type.WhichOneof("value") == "tensor_type"]
    if way == "initializer" or (way == "computed" and not fed) or case.opset < 11:
        case.graph.initializer.append(tensor)
        return name, []
    if way == "constant":
        return name, [helper.make_node("Constant", [], [name], value=tensor)]
    size, limit = case.fresh("size"), case.fresh("limit")
    case.graph.initializer.append(numpy_helper.from_array(np.array(-1 if value else 1 << 40), limit))
    return name, [helper.make_node("Size", [fed[0]], [size]), helper.make_node("Greater", [size, limit], [name])]


@rewrite(GRAPH)
def into_a_branch(case: Case, rng: random.Random) -> None:
    """An If: the nodes in one branch or both; inner values may be called like the If's outputs, and alike in both."""
    part = segment(case, rng)
    if part is None:
        return
    types = case.types()
    if case.opset < 13 and any(types[n].WhichOneof("value") != "tensor_type" for n in part.outputs if n in types):
        return
    branches = []
    for label in ("then", "else"):
        new = inner_names(case, part, rng, keep_outputs=rng.random() < 0.3)
        outputs = declared(case, part.outputs, new, rng)
        if outputs is None:
            return
        graph = helper.make_graph(renamed(part.nodes, new), rng.choice([label, "", "graph", "é"]) or label, [], outputs)
        branches.append(graph)
    name, nodes = _flag(case, rng, rng.random() < 0.5, ranked=True)
    call = helper.make_node("If", [name], part.outputs, then_branch=branches[0], else_branch=branches[1])
    replace(case, part, [*nodes, call])


@rewrite(GRAPH)
def into_a_loop(case: Case, rng: random.Random) -> None:
    """A Loop of one trip whose scan outputs are what the nodes make."""
    part = segment(case, rng)
    if part is None or case.opset < 11 or any(a.name == "sparse_value" for n in part.nodes for a in n.attribute):
        return  # onnxruntime does not run sparse constants in loops
    types = case.types()
    if any(name not in types or types[name].WhichOneof("value") != "tensor_type" for name in part.outputs):
        return
    new = inner_names(case, part, rng)
    outputs = declared(case, part.outputs, new, rng)
    assert outputs is not None
    more, more_out, trip = case.fresh("more"), case.fresh("more_out"), case.fresh("i")
    body = helper.make_graph(
        [*renamed(part.nodes, new), helper.make_node("Identity", [more], [more_out])], "body",
        [helper.make_tensor_value_info(trip, TensorProto.INT64, []),
         helper.make_tensor_value_info(more, TensorProto.BOOL, [])],
        [helper.make_tensor_value_info(more_out, TensorProto.BOOL, []), *outputs],
    )  # fmt: skip
    times = case.fresh("times")
    case.graph.initializer.append(numpy_helper.from_array(np.array(1), times))
    condition, nodes = rng.choice([lambda: ("", []), lambda: _flag(case, rng, True)])()
    stacked = {name: case.fresh(f"{name}_stacked") for name in part.outputs}
    call = helper.make_node("Loop", [times, condition], list(stacked.values()), body=body)
    after = []
    for name, source in stacked.items():
        if case.opset < 13:
            after.append(helper.make_node("Squeeze", [source], [name], axes=[0]))
        else:
            axes = case.fresh("axes")
            case.graph.initializer.append(numpy_helper.from_array(np.array([0]), axes))
            after.append(helper.make_node("Squeeze", [source, axes], [name]))
    replace(case, part, [*nodes, call, *after])
