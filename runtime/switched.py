"""A half-precision graph whose parts can be switched between float32 and half precision from run to run.

One session tries any mix of precisions: every weight is there in both, and flags choose; every result of a turned
operator is rounded or not (:mod:`netferry.runtime.emulate`). What a part in half precision takes from one in float32
is rounded where it enters, as the Cast there does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netferry.runtime.emulate import as_it_is, in_float32

_FLAGS, _ROUNDING = "netferry:half", "netferry:rounding"
LEAST_OPSET = 9
"""that has Where for float32"""


class Switched:
    """A session of a switched graph.

    Args:
        half: the ``onnx.ModelProto`` in half precision.
        weights: float32 values by the name of the half weight.
        parts: number of the part that makes a value, by name; a node that is in none keeps its precision.
        inserted: what Casts between the precisions give: they do nothing here.
        by_reference: let onnx.reference run it.

    Raises:
        MissingExtra: onnxruntime is not installed.
        CheckFailed: it does not take the graph.
    """

    def __init__(
        self,
        half: Any,
        weights: Mapping[str, np.ndarray],
        parts: Mapping[str, int],
        inserted: set[str],
        *,
        by_reference: bool = False,
    ) -> None:
        self._run = as_it_is(_Switching(half, weights, parts, inserted).graph, by_reference=by_reference)

    def run(self, feeds: Mapping[str, np.ndarray], half: np.ndarray, *, rounding: bool = True) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feeds: float32 inputs.
            half: for each part, whether it is in half precision.
            rounding: round what operators give; otherwise the weights alone, as onnxruntime's processor does.

        Raises:
            CheckFailed: it fails.
        """
        return self._run(in_float32(feeds) | {_FLAGS: np.asarray(half, np.bool_), _ROUNDING: np.array(rounding)})


class _Switching:
    def __init__(
        self, half: Any, weights: Mapping[str, np.ndarray], parts: Mapping[str, int], inserted: set[str]
    ) -> None:
        import onnx

        from netferry.schemas.inference import infer_shapes

        self.onnx, self.float = onnx, onnx.TensorProto.FLOAT
        halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        self.graph = infer_shapes(half)
        graph = self.graph.graph
        self.parts, self.weights = parts, weights
        known = [(v.name, v.type.tensor_type.elem_type) for v in (*graph.value_info, *graph.input, *graph.output)]
        self.kinds = {name: kind for name, kind in known if kind in halves}
        self.kinds |= {t.name: t.data_type for t in graph.initializer if t.data_type in halves}
        self.made: set[str] = set()
        nodes = list(graph.node)
        del graph.node[:], graph.value_info[:]
        self._flags(max(parts.values(), default=0) + 1)
        self._initializers(halves)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in halves:
                value.type.tensor_type.elem_type = self.float
        for node in nodes:
            self._plain(node, halves)
            self._switch(node, inserted)

    def _flags(self, count: int) -> None:
        helper, bools = self.onnx.helper, self.onnx.TensorProto.BOOL
        self.graph.graph.input.extend((
            helper.make_tensor_value_info(_FLAGS, bools, [count]),
            helper.make_tensor_value_info(_ROUNDING, bools, []),
        ))  # fmt: skip
        for number in range(count):
            index = helper.make_tensor(f"{_FLAGS}:at:{number}", self.onnx.TensorProto.INT64, [], [number])
            self.graph.graph.initializer.append(index)
            self._node("Gather", [_FLAGS, index.name], f"{_FLAGS}:{number}")
            self._node("And", [f"{_FLAGS}:{number}", _ROUNDING], f"{_ROUNDING}:{number}")

    def _initializers(self, halves: tuple[int, ...]) -> None:
        """Half weights are stored as they are, under another name, beside the float32 ones."""
        graph = self.graph.graph
        for tensor in list(graph.initializer):
            if tensor.data_type not in halves:
                continue
            name = tensor.name
            full = self.weights.get(name)
            if full is not None:
                made = self.onnx.numpy_helper.from_array(np.ascontiguousarray(full, np.float32), f"{name}:full")
                graph.initializer.append(made)
            tensor.name = f"{name}:stored"
            self._node("Cast", [tensor.name], name if full is None else f"{name}:half", to=self.float)

    def _plain(self, node: Any, halves: tuple[int, ...]) -> None:
        """Types among a node's attributes become float32."""
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type in halves:
                values = self.onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(self.onnx.numpy_helper.from_array(values, attribute.t.name))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                attribute.i = self.float

    def _switch(self, node: Any, inserted: set[str]) -> None:
        part = next((self.parts[name] for name in node.output if name in self.parts), None)
        if part is None or node.output[0] in inserted:
            self.graph.graph.node.append(node)
            return
        for i, name in enumerate(node.input):
            if name in self.weights:
                node.input[i] = self._weight(name, part)
            elif name in self.kinds and self.parts.get(name) != part:
                node.input[i] = self._entering(name, part)
        raw = [name for name in node.output if name in self.kinds]
        for i, name in enumerate(node.output):
            if name in raw:
                node.output[i] = f"{name}:raw"
        self.graph.graph.node.append(node)
        for name in raw:
            self._rounded(f"{name}:raw", name, self.kinds[name], part)

    def _weight(self, name: str, part: int) -> str:
        made = f"{name}:in:{part}"
        if made not in self.made:
            self.made.add(made)
            self._node("Where", [f"{_FLAGS}:{part}", f"{name}:half", f"{name}:full"], made)
        return made

    def _entering(self, name: str, part: int) -> str:
        made = f"{name}:in:{part}"
        if made not in self.made:
            self.made.add(made)
            self._rounded(name, made, self.kinds[name], part)
        return made

    def _rounded(self, source: str, target: str, kind: int, part: int) -> None:
        self._node("Cast", [source], f"{target}:low", to=kind)
        self._node("Cast", [f"{target}:low"], f"{target}:back", to=self.float)
        self._node("Where", [f"{_ROUNDING}:{part}", f"{target}:back", source], target)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.graph.graph.node.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
