"""Calls of a functional model: which number means which, and an order in which arguments are there in time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from netferry.converters.keras.spec import Call, Ref, Spec, refs_in
from netferry.errors import MalformedFile, quoted


def first_nodes(spec: Spec) -> dict[str, int]:
    """The number that the first call of each layer goes by.

    Keras 2 counts a nested model's own construction as call 0, Keras 3 does not; files that were carried from one
    to the other are told by numbers that would otherwise be out of range.
    """
    if spec.generation == 3 and "_outputs" not in spec.__dict__:
        spec.__dict__["_outputs"] = spec.outputs = _as_arguments(spec)
    lowest: dict[str, int] = {}
    highest: dict[str, int] = {}
    for ref in all_refs(spec):
        lowest[ref.layer] = min(lowest.get(ref.layer, ref.node), ref.node)
        highest[ref.layer] = max(highest.get(ref.layer, 0), ref.node)
    first: dict[str, int] = {}
    for child in spec.layers or ():
        from_one = child.layers is not None and spec.generation <= 2
        if child.layers is not None and highest.get(child.name, 0) >= len(child.calls) > 0:
            from_one = True
        if lowest.get(child.name, 1) == 0:
            from_one = False
        first[child.name] = int(from_one)
    return first


def _as_arguments(spec: Spec) -> Any:
    """A model's outputs with the calls of nested functional models counted from 0, as Keras 3 counts in arguments.

    In ``output_layers`` it counts from 1, as Keras 2 does everywhere (get_config in keras/src/models/functional.py).
    """
    models = {child.name: len(child.calls) for child in spec.layers or () if child.layers and not child.sequential}
    read = [ref for child in spec.layers or () for call in child.calls for ref in refs_in([call.args, call.kwargs])]
    later = {ref.layer for ref in read if ref.node >= models.get(ref.layer, 1)}  # arguments that count from 1, too
    counted = {ref.layer for ref in refs_in(spec.outputs) if ref.node == 0} | later

    def shifted(value: Any) -> Any:
        if isinstance(value, Ref):
            return (
                replace(value, node=value.node - 1) if value.layer in models and value.layer not in counted else value
            )
        if isinstance(value, (list, tuple)):
            return type(value)(shifted(item) for item in value)
        return {k: shifted(v) for k, v in value.items()} if isinstance(value, dict) else value

    return shifted(spec.outputs)


def all_refs(spec: Spec) -> Iterator[Ref]:
    """Every reference in the model: arguments of calls, and its outputs."""
    for child in spec.layers or ():
        for call in child.calls:
            yield from refs_in(call.args)
            yield from refs_in(call.kwargs)
    yield from refs_in(spec.outputs)


def uses_of(spec: Spec, layer: str, node: int) -> list[Ref]:
    """References to one call of a layer."""
    index = spec.__dict__.get("_uses")
    if index is None:
        index = {}
        for ref in all_refs(spec):
            index.setdefault((ref.layer, ref.node), []).append(ref)
        spec.__dict__["_uses"] = index
    return index.get((layer, node), [])


def shapes_of(uses: Sequence[Ref]) -> list[Any]:
    """Shapes of a call's outputs by number, None where no reference tells."""
    known = {r.tensor: r.shape for r in uses if r.shape is not None}
    return [known.get(i) for i in range(1 + max(known, default=-1))]


def in_order(spec: Spec, first: dict[str, int], given: set[Ref]) -> Iterator[tuple[str, int, Call]]:
    """Calls in an order in which every argument is there before it is used, the file's order where possible."""
    calls: list[tuple[str, int, Call]] = []
    number: dict[tuple[str, int], int] = {}
    inputs = {(r.layer, r.node) for r in given}
    for child in spec.layers or ():
        for i, call in enumerate(child.calls):
            if (child.name, i) not in inputs:
                number[child.name, i] = len(calls)
                calls.append((child.name, i, call))
    waits = [0] * len(calls)
    readers: dict[int, list[int]] = {}
    for at, (name, _, call) in enumerate(calls):
        needed: set[int] = set()
        for ref in [*refs_in(call.args), *refs_in(call.kwargs)]:
            key = (ref.layer, ref.node - first.get(ref.layer, 0))
            if key in inputs:
                continue
            if key not in number:
                raise MalformedFile(f"takes call {ref.node} of {quoted(ref.layer)}, which is not there", layer=name)
            needed.add(number[key])
        waits[at] = len(needed)
        for source in needed:
            readers.setdefault(source, []).append(at)
    ready = [at for at, n in enumerate(waits) if n == 0]
    heapq.heapify(ready)
    done = 0
    while ready:
        at = heapq.heappop(ready)
        done += 1
        yield calls[at]
        for reader in readers.get(at, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if done != len(calls):
        stuck = next(calls[at][0] for at, n in enumerate(waits) if n)
        raise MalformedFile("the layers wait for each other in a circle", layer=stuck)


def filled(value: Any, tensors: dict[Ref, Any], first: dict[str, int], layer: str) -> Any:
    """Put tensors in the place of references."""
    if isinstance(value, Ref):
        key = Ref(value.layer, value.node - first.get(value.layer, 0), value.tensor)
        if key not in tensors:
            raise MalformedFile(
                f"takes output {value.tensor} of {quoted(value.layer)}, which is not there", layer=layer
            )
        return tensors[key]
    if isinstance(value, list):
        return [filled(v, tensors, first, layer) for v in value]
    if isinstance(value, dict):
        return {k: filled(v, tensors, first, layer) for k, v in value.items()}
    return value
