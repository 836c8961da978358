"""Control flow and sequences: modules whose bodies are graphs of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from netferry.runtime.torch.naming import path_parts, wanted_path
from netferry.schemas.ir import ir

if TYPE_CHECKING:
    pass

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
        limit = None if most is None else int(most)
        states, captured = list(values[: self.carried]), values[self.carried :]
        device = next((v.device for v in values if isinstance(v, Tensor)), None)
        found: list[list[Tensor]] = [[] for _ in range(self.outputs - self.carried)]
        alive: Any = True if condition is None else condition
        step = 0
        while (limit is None or step < limit) and bool(alive):
            number = torch.tensor(step, dtype=torch.int64, device=device)
            flag = alive if isinstance(alive, Tensor) else torch.tensor(bool(alive), device=device)
            alive, *results = self.body(number, flag, *states, *captured)
            states = results[: self.carried]
            for kept, value in zip(found, results[self.carried :], strict=True):
                kept.append(value)
            step += 1
        return (*states, *(torch.stack(kept) if kept else torch.empty(0, device=device) for kept in found))


class Scan(nn.Module):
    """Runs its body along axes of its inputs."""

    def __init__(self, body: nn.Module, settings: dict[str, Any]) -> None:
        super().__init__()
        self.body = body
        self.states: int = settings["states"]
        self.inputs: int = settings["inputs"]
        self.axes: list[int] = settings["axes"]
        self.backward: list[int] = settings["backward"]
        self.out_axes: list[int] = settings["out_axes"]
        self.out_backward: list[int] = settings["out_backward"]

    def forward(self, *values: Any) -> tuple[Any, ...]:
        states = list(values[: self.states])
        inputs = values[self.states : self.states + self.inputs]
        captured = values[self.states + self.inputs :]
        rows = [x.unbind(axis) for x, axis in zip(inputs, self.axes, strict=True)]
        rows = [r[::-1] if back else r for r, back in zip(rows, self.backward, strict=True)]
        found: list[list[Tensor]] = [[] for _ in self.out_axes]
        for items in zip(*rows, strict=True):
            results = self.body(*states, *items, *captured)
            states = list(results[: self.states])
            for kept, value in zip(found, results[self.states :], strict=True):
                kept.append(value)
        joined = [
            torch.stack(kept[::-1] if back else kept, axis)
            for kept, axis, back in zip(found, self.out_axes, self.out_backward, strict=True)
        ]
        return (*states, *joined)


class SequenceMap(nn.Module):
    """Runs its body on each tensor of a sequence, beside those of further sequences, or tensors as they are."""

    def __init__(self, body: nn.Module, inputs: int) -> None:
        super().__init__()
        self.body, self.inputs = body, inputs

    def forward(self, *values: Any) -> tuple[Any, ...]:
        given, captured = values[: self.inputs], values[self.inputs :]
        rows = []
        for i in range(len(given[0])):
            items = [v[i] if isinstance(v, (list, tuple)) else v for v in given]
            rows.append(self.body(*items, *captured))
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
        inputs.append(held.node if plain and held.kind == "host" else builder.as_tensor_node(held, value))
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
