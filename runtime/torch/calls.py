"""Nodes as calls: of operators' functions, of functions on Python numbers, or computed while building."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from torch import fx

from netferry.runtime.torch import host
from netferry.runtime.torch.dtypes import TORCH_OF
from netferry.runtime.torch.facts import attribute, used_outputs
from netferry.runtime.torch.folding import fold
from netferry.runtime.torch.registry import Op, operators
from netferry.runtime.torch.values import Held, Unsupported, Values, literal
from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, layer_of
from netferry.schemas.tensors import array_of

_TO_THE_END = (1 << 31) - 1
"""an end of a Slice that no axis reaches (operator Slice: "it's recommended to pass in INT_MAX")"""
_MOST_OF_HALF = float(np.finfo(np.float16).max)
_SCALARS = {"Add", "Sub", "Mul", "Div", "Pow", "Clip", "Max", "Min", "Pad"}


class Calls(Values):
    """What a node becomes that is no module."""

    def unpack(self, node: ir.Node, several: fx.Node) -> None:
        for i, value in enumerate(node.outputs):
            if value.name and (value.uses() or value.is_graph_output()):
                got = self.stamp(self.graph.call_function(operator.getitem, (several, i)), node)
                self.held[value] = Held("tensor", got)

    def _input(self, node: ir.Node, i: int) -> fx.Node:
        value = node.inputs[i]
        if value is None:
            raise AssertionError(f"{node.op_type}: input {i} is left out")
        return self.as_tensor_node(self.lookup(value), value)

    def stamp(self, made: fx.Node, node: ir.Node) -> fx.Node:
        """Note on an fx node what the writer of source code wants to know of the operator."""
        value = node.outputs[0]
        made.meta["netferry.layer"] = layer_of(node)[0]
        made.meta["netferry.floating"] = value.dtype in FLOATS
        made.meta["netferry.rank"] = None if value.shape is None else len(value.shape)
        return made

    def _fold(self, node: ir.Node) -> bool:
        """Compute small nodes of constants alone."""
        helds: list[Held | None] = []
        for value in node.inputs:
            held = None if value is None else self.lookup(value)
            if held is not None and held.kind != "constant":
                return False  # at once: the values of the other inputs may not be wanted
            helds.append(held)
        if not helds:
            return False
        arrays = fold(node, [None if h is None else h.array for h in helds], settings_of(node))
        if arrays is None:
            return False
        for value, array in zip(node.outputs, arrays, strict=False):
            self.held[value] = Held("constant", array=array, rank=array.ndim)
        return True

    def _passes_on(self, node: ir.Node) -> bool:
        """A Slice of all that there is, as ``x[:, -1]`` is exported for its first axis."""
        if node.op_type != "Slice":
            return False
        helds = [None if v is None else self.lookup(v) for v in node.inputs]
        numbers = [None if h is None else literal(h) for h in helds[1:]]
        starts, ends, steps = (numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else [1])
        if not starts or not ends or any(starts) or min(ends) < _TO_THE_END or set(steps or ()) != {1}:
            return False
        if helds[0] is None or helds[0].kind != "tensor":
            return False
        self.held[node.outputs[0]] = helds[0]
        return True

    def _on_host(self, node: ir.Node) -> bool:
        value = node.outputs[0]
        if node.op_type in ("Shape", "ConstantOfShape") and self._on_list(node):
            return True
        if node.op_type == "Shape":
            x = self._input(node, 0)
            bounds = tuple(attribute(node, name, default) for name, default in (("start", 0), ("end", None)))
            bounds = () if bounds == (0, None) else bounds
            made = self.stamp(self.graph.call_function(host.shape, (x, *bounds)), node)
            self.held[value] = Held("host", made, rank=1)
            return True
        if node.op_type == "Size":
            made = self.stamp(self.graph.call_function(host.size, (self._input(node, 0),)), node)
            self.held[value] = Held("host", made, rank=0)
            return True
        form = host.HOST.get(node.op_type)
        if form is None:
            return False
        helds = [None if v is None else self.lookup(v) for v in node.inputs]
        if not any(h is not None and h.kind == "host" for h in helds):
            return False
        known = [None if h is None else literal(h) for h in helds]
        if node.op_type == "Squeeze" and len(helds) == 1 and value.shape is not None and not len(value.shape):
            helds, known = [*helds, None], [*known, [0]]  # the one axis of a list of one number
        for h, k in zip(helds, known, strict=True):
            if h is not None and h.kind != "host" and k is None:
                return False
        ranks = [(h.rank if h.rank is not None else -1) for h in helds if h is not None]
        if any(r not in (0, 1) for r in ranks):
            return False
        attributes = {a.name: a.value for a in node.attributes.values()}
        rank = form.rank(ranks, attributes, known)
        if rank is None:
            return False
        args = tuple(
            None if h is None else h.node if h.kind == "host" else k for h, k in zip(helds, known, strict=True)
        )
        settings = {name: attributes[name] for name in form.attributes if name in attributes}
        made = self.stamp(self.graph.call_function(form.function, args, settings), node)
        made.meta["netferry.rank"] = rank
        self.held[value] = Held("host", made, rank=rank)
        return True

    def _on_list(self, node: ir.Node) -> bool:
        """The shape of a list of sizes, and a list of such a length: torch's exporter writes them for ``expand``."""
        source, value = node.inputs[0], node.outputs[0]
        held = None if source is None else self.lookup(source)
        if held is None or held.kind != "host" or held.rank != 1 or held.node is None:
            return False
        settings: dict[str, Any] = {}
        if node.op_type == "Shape":
            if node.attributes:
                return False
            function = host.length
        elif held.node.target is host.length:
            tensor = attribute(node, "value", None)
            array = np.zeros(1, np.float32) if tensor is None else array_of(tensor)
            if array is None or array.size != 1 or array.dtype.kind not in "biuf":
                return False
            function, settings = host.filled, {"value": array.reshape(-1)[0].item()}
        else:
            return False
        made = self.stamp(self.graph.call_function(function, (held.node,), settings), node)
        made.meta["netferry.rank"] = 1
        self.held[value] = Held("host", made, rank=1)
        return True

    def _function(self, node: ir.Node) -> None:
        op = operators().get(node.op_type)
        if op is None:
            raise Unsupported("no torch counterpart")
        args = self._arguments(node, op)
        settings = settings_of(node)
        unknown = set(settings) - set(op.attributes)
        if unknown:
            raise Unsupported(f"attribute {sorted(unknown)[0]} is not supported")
        for name, value in settings.items():
            if node.attributes[name].type == ir.AttributeType.TENSOR:
                settings[name] = self._buffer(np.array(array_of(value)))
        if "outputs" in op.extras:
            settings["outputs"] = max((i + 1 for i, used in enumerate(used_outputs(node)) if used), default=1)
            if node.op_type == "Split":
                settings["outputs"] = len(node.outputs)
        if "like" in op.extras:
            settings["like"] = self.anchor()
        self._check_types(node)
        made = self.stamp(self.graph.call_function(op.function, tuple(args), settings), node)
        if op.many == "always" or (op.many == "if asked" and settings.get("outputs", 1) > 1):
            self.unpack(node, made)
        else:
            self.held[node.outputs[0]] = Held("tensor", made)

    def _check_types(self, node: ir.Node) -> None:
        """Refuse element types that torch does not compute with; constants of them are held in wider ones."""
        for value in [*node.inputs, *node.outputs]:
            kind = None if value is None else value.dtype
            if value is None or kind is None or int(kind) in TORCH_OF:
                continue
            held = self.held.get(value)
            if held is None or held.kind != "constant" or kind == ir.DataType.STRING:
                raise Unsupported(f"element type {kind.name.lower()}")
        for name in ("to", "dtype", "output_dtype", "output_datatype"):
            held = node.attributes.get(name)
            if held is not None and not held.is_ref() and held.value and int(held.value) not in TORCH_OF:
                raise Unsupported(f"element type {held.value}")

    def _arguments(self, node: ir.Node, op: Op) -> list[Any]:
        args: list[Any] = []
        if len(node.inputs) > len(op.inputs) and not op.variadic:
            raise Unsupported(f"takes {len(op.inputs)} inputs")
        for i, value in enumerate(node.inputs):
            if value is None or value.name == "":
                args.append(None)
                continue
            held, kind = self.lookup(value), op.kind(i)
            if node.op_type == "Where":
                held = _of_rank(held, node.outputs[0])
            if kind == "tensor":
                number = self._number(node, i, held)
                args.append(self.as_tensor_node(held, value) if number is None else number)
            else:
                args.append(self._host_argument(held, kind, value))
        while args and args[-1] is None and len(args) > op.required:
            args.pop()
        return args

    def _number(self, node: ir.Node, i: int, held: Held) -> Any:
        """A scalar constant as a Python number, where the operator takes one beside a tensor of the same type."""
        if node.op_type == "Range" and held.kind in ("host", "constant"):
            return held.node if held.kind == "host" else literal(held)
        if node.op_type == "Gather" and i == 1 and held.rank == 0 and held.kind in ("host", "constant"):
            return held.node if held.kind == "host" else literal(held)
        if node.op_type == "Dropout" and i > 0 and held.kind == "constant":
            return literal(held)
        if node.op_type not in _SCALARS or held.kind != "constant" or held.array is None or held.array.size != 1:
            return None
        array = held.array
        if array.dtype not in (np.float32, np.float64, np.int64, np.int32, np.float16):
            return None
        if node.op_type in ("Max", "Min", "Pad", "Clip"):
            return array.item() if node.op_type in ("Clip", "Pad") and array.dtype.kind == "f" else None
        beside = node.inputs[1 - i] if len(node.inputs) == 2 else None
        other = None if beside is None else self.lookup(beside)
        if (
            beside is None
            or other is None
            or other.kind not in ("tensor", "weight")
            or (node.op_type == "Pow" and i == 0)
        ):
            return None
        if array.ndim > (0 if beside.shape is None else len(beside.shape)):
            return None
        return array.item()

    def _host_argument(self, held: Held, kind: str, value: ir.Value) -> Any:
        if held.kind == "constant":
            number = literal(held)
            if number is None:
                return self._read(self.as_tensor_node(held, value), kind)
            numbers = host.as_list(number)
            return numbers if kind == "vector" else (numbers[0] if numbers else None)
        if held.kind == "host" and held.rank == (1 if kind == "vector" else 0):
            return held.node
        return self._read(held.node if held.kind == "host" else self.as_tensor_node(held, value), kind)

    def _read(self, node: Any, kind: str) -> fx.Node:
        return self.graph.call_function(host.as_list if kind == "vector" else host.as_number, (node,))


def _of_rank(held: Held, value: ir.Value) -> Held:
    """A large number as a list of one: beside half precision a scalar takes its type, where -1e9 has no place."""
    array, rank = held.array, 0 if value.shape is None else len(value.shape)
    if held.kind != "constant" or array is None or array.ndim or not rank or array.dtype.kind != "f":
        return held
    return Held("constant", array=array.reshape(1), rank=1) if abs(array.item()) > _MOST_OF_HALF else held


def settings_of(node: ir.Node) -> dict[str, Any]:
    """Attributes as Python values."""
    out: dict[str, Any] = {}
    for held in node.attributes.values():
        if held.is_ref():
            raise Unsupported("an attribute of a function call")
        value = held.value
        out[held.name] = list(value) if isinstance(value, tuple) else value
    return out
