"""Transposes pushed through the operators between them and cancelled.

For a Transpose the region of operators that could as well work on the layout before it is found: every one of them
says in :mod:`transposes_rules` what changes. The region is rewritten where that leaves fewer Transposes than there
were: those at its edges with the same permutation go, others are put where a value enters or leaves it otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from netferry.converters.passes.constants import fixed
from netferry.converters.passes.editing import (
    Edit,
    attr,
    feed,
    given,
    graph_pass,
    made_by,
    remove,
    same_graph,
    set_attr,
)
from netferry.converters.passes.transposes_rules import RULES, Move, moved_data
from netferry.schemas.ir import ir
from netferry.schemas.layers import LIES

_LARGEST = 2000
_PRUNED = 150


@graph_pass("transposes", "full")
def cancel_transposes(edit: Edit) -> bool:
    """Transposes are merged, pushed through the operators that allow it, and cancelled"""
    changed = _merge(edit)
    done: set[ir.Node] = set()
    while True:
        for node in edit.nodes("Transpose"):
            if node in done or _perm(edit, node) is None:
                continue
            done.add(node)
            region = _best(edit, node)
            if region is not None:
                _apply(edit, region)
                _merge(edit)
                changed = True
                break
        else:
            return changed


def _perm(edit: Edit, node: ir.Node) -> list[int] | None:
    rank = edit.rank(given(node, 0))
    perm = attr(node, "perm")
    if rank is None:
        return None if perm is None else list(perm)
    return list(range(rank))[::-1] if perm is None else list(perm)


def _merge(edit: Edit) -> bool:
    """Two Transposes in a row become one, or none."""
    changed = False
    for node in edit.nodes("Transpose"):
        first = made_by(given(node, 0), "Transpose")
        if first is None or not same_graph(first, node):
            continue
        p, q, source = _perm(edit, first), _perm(edit, node), given(first, 0)
        if p is None or q is None or source is None:
            continue
        both = [p[i] for i in q]
        if both == sorted(both):
            changed |= edit.put(node, source)
        else:
            feed(node, 0, source)
            set_attr(node, perm=both)
            changed = True
        if not first.outputs[0].uses() and not first.outputs[0].is_graph_output():
            remove(first)
    return changed


@dataclass
class _Region:
    """Operators that are to work on the layout before a Transpose with permutation ``perm``."""

    perm: list[int]
    graph: object
    nodes: dict[ir.Node, None] = field(default_factory=dict)

    @property
    def inverse(self) -> list[int]:
        """The permutation back."""
        return sorted(range(len(self.perm)), key=self.perm.__getitem__)


def _best(edit: Edit, start: ir.Node) -> _Region | None:
    perm = _perm(edit, start)
    if perm is None or perm == sorted(perm) or start.outputs[0].is_graph_output():
        return None
    for up in (False, True):
        region = _Region(perm, start.graph)
        _grow(edit, region, start.outputs[0], up)
        if not region.nodes or len(region.nodes) > _LARGEST:
            continue
        gain = _cost(edit, region)
        if gain >= 0 and len(region.nodes) <= _PRUNED:
            gain = _prune(edit, region, gain)
        if gain < 0:
            return region
    edit.why(start, "moving it would leave no fewer Transposes")
    return None


def _grow(edit: Edit, region: _Region, value: ir.Value, up: bool) -> None:
    pending = [value]
    seen: set[ir.Value] = set()
    while pending and len(region.nodes) <= _LARGEST:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        readers = [use.node for use in current.uses()]
        maker = current.producer()
        if up and maker is not None and not _from_transpose(edit, region, current):
            readers.append(maker)
        for node in readers:
            if node in region.nodes or node.graph is not region.graph or not _allows(edit, region, node):
                continue
            region.nodes[node] = None
            if RULES[node.op_type].carries(node):
                pending.extend(v for v in node.outputs if v.uses() or v.is_graph_output())
            if up:
                pending.extend(v for v in moved_data(node) if not fixed(v) and edit.rank(v) == len(region.perm))


def _allows(edit: Edit, region: _Region, node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
        return False
    rank = len(region.perm)
    data = moved_data(node)
    if not data or not any(edit.rank(v) == rank and not fixed(v) for v in data):
        return False
    for value in data:
        size = edit.rank(value)
        if size is None or size > rank or (not fixed(value) and size not in (0, rank)):
            return False
        if fixed(value) and len(value.uses()) > 1 and value.const_value is not None and value.const_value.size > 4096:
            return False
    return RULES[node.op_type].check(Move(edit, node, region.perm))


def _from_transpose(edit: Edit, region: _Region, value: ir.Value) -> ir.Node | None:
    maker = made_by(value, "Transpose")
    return maker if maker is not None and maker.graph is region.graph and _perm(edit, maker) == region.perm else None


def _inside(region: _Region, value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and maker in region.nodes and RULES[maker.op_type].carries(maker)


def _cost(edit: Edit, region: _Region) -> int:
    """How many Transposes more there would be."""
    cost = 0
    entering: set[ir.Value] = set()
    leaving: set[ir.Value] = set()
    for node in region.nodes:
        for value in moved_data(node):
            if not fixed(value) and not _inside(region, value) and edit.rank(value) == len(region.perm):
                entering.add(value)
        if RULES[node.op_type].carries(node):
            leaving.update(node.outputs)
    for value in entering:
        maker = made_by(value, "Transpose")
        outside = value.is_graph_output() or any(use.node not in region.nodes for use in value.uses())
        if maker is not None and maker.graph is region.graph:
            same = _perm(edit, maker) == region.perm
            cost += (0 if outside else -1) if same else (1 if outside else 0)
        else:
            cost += 1
    for value in leaving:
        outer = [use.node for use in value.uses() if use.node not in region.nodes]
        plain, named = value.is_graph_output(), False
        for node in outer:
            if node.op_type == "Transpose" and node.graph is region.graph:
                perm = _perm(edit, node)
                gone = perm is not None and [region.perm[i] for i in perm] == sorted(region.perm)
                if gone and node.outputs[0].is_graph_output():  # its name can go to one value only
                    gone, named = not named, True
                cost -= 1 if gone else 0
            else:
                plain = True
        cost += 1 if plain else 0
    return cost


def _prune(edit: Edit, region: _Region, cost: int) -> int:
    """Leave out nodes as long as that helps, those at the edges first; returns the cost."""
    improved = True
    while improved:
        improved = False
        for node in reversed(list(region.nodes)):
            del region.nodes[node]
            now = _cost(edit, region) if region.nodes else 0
            if now <= cost and region.nodes:
                improved = improved or now < cost
                cost = now
                if cost < 0:
                    return cost
            else:
                region.nodes[node] = None
    return cost


def _apply(edit: Edit, region: _Region) -> None:
    inverse = region.inverse
    entered: dict[ir.Value, ir.Value] = {}
    order = [n for n in edit.nodes() if n in region.nodes]
    leaving: list[ir.Value] = []
    for node in order:
        move = Move(edit, node, region.perm)
        RULES[node.op_type].apply(move)
        for i in RULES[node.op_type].inputs(node):
            value = given(node, i)
            if value is None or _inside(region, value):
                continue
            if fixed(value):
                move.constant(i)
            elif edit.rank(value) == len(region.perm):
                if value not in entered:
                    entered[value] = _enter(edit, region, node, value, inverse)
                feed(node, i, entered[value])
        if RULES[node.op_type].carries(node):
            leaving.extend(node.outputs)
    for value in leaving:
        _leave(edit, region, value)
    for value in entered:
        maker = value.producer()
        if maker is not None and maker.op_type == "Transpose" and not value.uses() and not value.is_graph_output():
            remove(maker)


def _enter(edit: Edit, region: _Region, node: ir.Node, value: ir.Value, inverse: list[int]) -> ir.Value:
    """The value in the layout before the Transpose."""
    same = _from_transpose(edit, region, value)
    if same is not None and same.inputs[0] is not None:
        return same.inputs[0]
    made = edit.at(node).op("Transpose", value, perm=inverse)
    edit.dims.turned(made, value, inverse)
    return made


def _leave(edit: Edit, region: _Region, value: ir.Value) -> None:
    """Give readers outside the region the value as it was."""
    outer = [(use.node, use.idx) for use in value.uses() if use.node not in region.nodes]
    shape = value.shape
    before = edit.dims.shape(value)
    edit.dims.turned(value, value, region.inverse)
    if shape is not None:
        value.shape = ir.Shape([shape[i] for i in region.inverse])
    maker = value.producer()
    as_it_was = None if maker is None else maker.metadata_props.get(LIES)
    if maker is not None and as_it_was is not None:
        lies = json.loads(as_it_was)
        lies["order"] = [lies["order"][i] for i in region.inverse]
        maker.metadata_props[LIES] = json.dumps(lies)
    if maker is None or (not outer and not value.is_graph_output()):
        return
    back = ir.node("Transpose", [value], {"perm": list(region.perm)}, num_outputs=1)
    back.name = edit.node_name(f"{maker.name or maker.op_type}/Transpose")
    back.metadata_props.update(maker.metadata_props)
    if as_it_was is not None:
        back.metadata_props[LIES] = as_it_was
    new = back.outputs[0]
    new.type, new.shape = value.type, shape
    if before is not None:
        edit.dims.dims[new] = before
    owner = maker.graph
    if owner is None:
        raise AssertionError("the node is in a graph")
    owner.insert_after(maker, back)
    name = value.name or ""
    if value.is_graph_output():
        for i, output in enumerate(owner.outputs):
            if output is value:
                owner.outputs[i] = new
        value.name = edit.names_free(f"{name}:moved")
        new.name = name
    else:
        new.name = edit.names_free(f"{name}:back")
    for node, i in outer:
        node.replace_input_with(i, new)
