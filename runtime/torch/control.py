"""Control flow and sequences: modules whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from netferry.runtime.torch import host
from netferry.runtime.torch.naming import path_parts, wanted_path
from netferry.schemas.ir import ir

CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


class If(nn.Module):
    """Runs one of two bodies; each gets the captured values that it reads."""

    def __init__(self, then: nn.Module, otherwise: nn.Module, split: int) -> None:
        super().__init__()
        self.then_branch, self.else_branch, self.split = then, otherwise, split

    def forward(self, condition: Any, *captured: Any) -> Any:
        if condition:
            return self.then_branch(*captured[: self.split])
        return self.else_branch(*captured[self.split :])


class Loop(nn.Module):
    """Runs its body while the condition holds, at most so many times."""

    def __init__(self, body: nn.Module, carried: int, outputs: int) -> None:
        super().__init__()
        self.body, self.carried, self.outputs = body, carried, outputs

    def forward(self, most: Any, condition: Any, *values: Any) -> tuple[Any, ...]:
        return run_loop(self.body, most, condition, *values, carried=self.carried, outputs=self.outputs)


class Scan(nn.Module):
    """Runs its body along axes of its inputs."""

    def __init__(self, body: nn.Module, settings: dict[str, Any]) -> None:
        super().__init__()
        self.body, self.settings = body, settings

    def forward(self, *values: Any) -> tuple[Any, ...]:
        return run_scan(self.body, *values, **self.settings)


class SequenceMap(nn.Module):
    """Runs its body on each tensor of a sequence, beside those of further sequences, or tensors as they are."""

    def __init__(self, body: nn.Module, inputs: int) -> None:
        super().__init__()
        self.body, self.inputs = body, inputs

    def forward(self, *values: Any) -> tuple[Any, ...]:
        return run_map(self.body, *values, inputs=self.inputs)


def run_loop(
    body: Callable[..., Any], most: Any, condition: Any, *values: Any, carried: int, outputs: int
) -> tuple[Any, ...]:
    """ONNX's Loop: ``carried`` values go from step to step, the further outputs of all steps are stacked."""
    limit = None if most is None else int(most)
    states, captured = list(values[:carried]), values[carried:]
    device = next((v.device for v in values if isinstance(v, Tensor)), None)
    found: list[list[Tensor]] = [[] for _ in range(outputs - carried)]
    alive: Any = True if condition is None else condition
    step = 0
    while (limit is None or step < limit) and bool(alive):
        number = torch.tensor(step, dtype=torch.int64, device=device)
        flag = alive if isinstance(alive, Tensor) else torch.tensor(bool(alive), device=device)
        alive, *results = body(number, flag, *states, *captured)
        states = results[:carried]
        for kept, value in zip(found, results[carried:], strict=True):
            kept.append(value)
        step += 1
    return (*states, *(torch.stack(kept) if kept else torch.empty(0, device=device) for kept in found))


def run_scan(
    body: Callable[..., Any],
    *values: Any,
    states: int,
    inputs: int,
    axes: list[int],
    backward: list[int],
    out_axes: list[int],
    out_backward: list[int],
) -> tuple[Any, ...]:
    """ONNX's Scan: the body gets a slice of each input per step; its further outputs are stacked."""
    carried = list(values[:states])
    scanned = values[states : states + inputs]
    captured = values[states + inputs :]
    rows = [x.unbind(axis) for x, axis in zip(scanned, axes, strict=True)]
    rows = [r[::-1] if back else r for r, back in zip(rows, backward, strict=True)]
    found: list[list[Tensor]] = [[] for _ in out_axes]
    for items in zip(*rows, strict=True):
        results = body(*carried, *items, *captured)
        carried = list(results[:states])
        for kept, value in zip(found, results[states:], strict=True):
            kept.append(value)
    joined = [
        torch.stack(kept[::-1] if back else kept, axis)
        for kept, axis, back in zip(found, out_axes, out_backward, strict=True)
    ]
    return (*carried, *joined)


def run_map(body: Callable[..., Any], *values: Any, inputs: int) -> tuple[Any, ...]:
    """ONNX's SequenceMap: the body gets one tensor of each sequence (and tensors as they are) at a time."""
    given, captured = values[:inputs], values[inputs:]
    rows = []
    for i in range(len(given[0])):
        items = [v[i] if isinstance(v, (list, tuple)) else v for v in given]
        rows.append(body(*items, *captured))
    return tuple(list(column) for column in zip(*rows, strict=True))


def control_node(builder: Any, node: ir.Node) -> None:
    """Build the bodies of a node and call the module that runs them."""
    from netferry.runtime.torch.build import GraphBuilder as Inner

    above = path_parts(builder.prefix)
    full = builder.store.paths.take([*above, *wanted_path(node, None)], holds=True)
    path = ".".join(full.split(".")[len(above) :])
    bodies: list[fx.GraphModule] = []
    captured: list[list[fx.Node]] = []
    names = ("then_branch", "else_branch") if node.op_type == "If" else ("body",)
    for name in names:
        graph = node.attributes[name].as_graph()
        inner = Inner(
            graph,
            builder.store,
            frozen_statistics=builder.frozen_statistics,
            outer=builder,
            prefix=f"{full}.{name}",
        )
        bodies.append(inner.build(list(graph.inputs), outputs_as_tuple=True))
        captured.append([builder.as_tensor_node(builder.lookup(v), v) for v in inner.captured])
    module, lead = _module_for(node, bodies, captured)
    holder = builder.container(path.rpartition(".")[0])
    holder.add_module(path.rpartition(".")[2], module)
    inputs: list[Any] = []
    for i, value in enumerate(node.inputs[:lead] if lead is not None else node.inputs):
        if value is None or value.name == "":
            inputs.append(None)
            continue
        held = builder.lookup(value)
        plain = node.op_type == "If" or (node.op_type == "Loop" and i < 2)
        if plain and held.kind == "host":  # a list of one number would be true whatever it holds
            inputs.append(builder.graph.call_function(host.as_number, (held.node,)) if held.rank else held.node)
        else:
            inputs.append(builder.as_tensor_node(held, value))
    args = (*inputs, *(n for group in captured for n in group))
    made = builder.stamp(builder.graph.call_module(path, args), node)
    builder.unpack(node, made)


def _module_for(
    node: ir.Node, bodies: list[fx.GraphModule], captured: list[list[fx.Node]]
) -> tuple[nn.Module, int | None]:
    if node.op_type == "If":
        return If(bodies[0], bodies[1], len(captured[0])), None
    if node.op_type == "Loop":
        return Loop(bodies[0], len(node.inputs) - 2, len(node.outputs)), None
    if node.op_type == "SequenceMap":
        return SequenceMap(bodies[0], len(node.inputs)), None
    inputs = int(node.attributes["num_scan_inputs"].as_int())
    states = len(node.inputs) - inputs
    outputs = len(node.outputs) - states

    def numbers(name: str, count: int) -> list[int]:
        held = node.attributes.get(name)
        return [0] * count if held is None else [int(v) for v in held.as_ints()]

    settings = {
        "states": states,
        "inputs": inputs,
        "axes": numbers("scan_input_axes", inputs),
        "backward": numbers("scan_input_directions", inputs),
        "out_axes": numbers("scan_output_axes", outputs),
        "out_backward": numbers("scan_output_directions", outputs),
    }
    return Scan(bodies[0], settings), None
