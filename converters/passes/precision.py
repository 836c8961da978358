"""Half precision: the graph in float16 or bfloat16, with operators that need float32 left in it.

A node is turned where the operator's schema has the type, it is not on the list of those that add up or count, and
no weight that it reads leaves the type's range; everything else stays float32, with Casts between. What lies inside
If, Loop and Scan stays float32. Kernels are rounded so that their sums stay (``rounding``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import onnx

from netferry.converters.passes.constants import fixed, weight
from netferry.converters.passes.editing import Budget, Edit, attr, set_attr
from netferry.converters.passes.fold import lift_constants
from netferry.converters.passes.opset_schema import raw_schema
from netferry.converters.passes.opset_types import annotate
from netferry.converters.passes.precision_report import PrecisionReport
from netferry.converters.passes.rounding import kernels_of, rounded
from netferry.errors import UnsupportedOption, UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, layer_of, role_of
from netferry.schemas.model import Model
from netferry.schemas.tensors import computed_tensor

KEPT = frozenset((
    "CumProd", "CumSum", "DFT", "DequantizeLinear", "Det", "DynamicQuantizeLinear", "GridSample", "LogSoftmax",
    "LpNormalization", "LRN", "MaxRoiPool", "MeanVarianceNormalization", "MelWeightMatrix",
    "NegativeLogLikelihoodLoss", "NonMaxSuppression", "Pow", "QuantizeLinear", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Range", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Resize",
    "RoiAlign", "STFT", "SoftmaxCrossEntropyLoss", "TopK", "Unique", "Upsample", "EyeLike", "HannWindow",
    "HammingWindow", "BlackmanWindow", "TfIdfVectorizer", "Optional", "OptionalGetElement", "OptionalHasElement",
    "SequenceConstruct", "SequenceEmpty", "SequenceAt", "SequenceInsert", "ConcatFromSequence", "SplitToSequence",
    "SequenceMap", "SequenceErase", "SequenceLength",
))  # fmt: skip
"""operators that add up many numbers, count, compare positions or measure: they stay in float32"""
_LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895313892515355e38}


def to_precision(
    model: Model,
    precision: Literal["fp16", "bf16"],
    *,
    keep_io: bool = True,
    keep_operators: Iterable[str] = KEPT,
    keep_layers: Iterable[str] | Mapping[str, str] = (),
) -> PrecisionReport:
    """Turn the model's float32 values into half precision, in place.

    Args:
        model: a float32 model.
        precision: ``fp16`` or ``bf16``.
        keep_io: inputs and outputs stay float32.
        keep_operators: operators that stay float32.
        keep_layers: layers, or operators by type, that stay float32; a mapping says why, for the report.

    Raises:
        UsageError: no such precision, or no such layer or operator.
        Uninitialised: a weight has no values.
        UnsupportedOption: nothing can be turned (the opset is too old, or there is nothing in float32).
    """
    kinds = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
    if precision not in kinds:
        raise UsageError(f"precision is fp16 or bf16, not {quoted(precision)}")
    model.require_values()
    known = {name for n in model.nodes() for name in (layer_of(n)[0], n.op_type)}
    if unknown := sorted(set(keep_layers) - known):
        raise UsageError(f"no layer and no operator {quoted(unknown[0])}")
    annotate(model.ir)
    edit = Edit(model, "full", Budget(), model.opset)
    lift_constants(edit)
    edit.fresh()
    turn = _Turn(edit, kinds[precision], PrecisionReport(precision))
    why = dict(keep_layers) if isinstance(keep_layers, Mapping) else dict.fromkeys(keep_layers, "asked for")
    turn.choose(frozenset(keep_operators), why)
    if not turn.low:
        raise UnsupportedOption(f"no operator of this model (opset {model.opset}) can work in {precision}")
    turn.rewrite(keep_io)
    return turn.report


class _Turn:
    def __init__(self, edit: Edit, kind: ir.DataType, report: PrecisionReport) -> None:
        self.edit, self.kind, self.report = edit, kind, report
        self.low: dict[ir.Node, None] = {}
        self.range = _LARGEST[kind]
        self.weights: dict[ir.Value, bool] = {}
        self.casts: dict[tuple[ir.Value, object, ir.DataType], ir.Value] = {}

    # which nodes -------------------------------------------------------------------------------------------------

    def choose(self, operators: frozenset[str], layers: Mapping[str, str]) -> None:
        """Find the nodes that are turned."""
        graph = self.edit.model.graph
        for node in graph:
            if not any(v is not None and v.dtype == ir.DataType.FLOAT for v in (*node.inputs, *node.outputs)):
                continue
            reason = self._reason(node, operators, layers)
            if reason is None:
                self.low[node] = None
                self.report.turned[node.op_type] += 1
            else:
                self.report.kept[layer_of(node)[0] or node.op_type] = f"{node.op_type}: {reason}"

    def _reason(self, node: ir.Node, operators: frozenset[str], layers: Mapping[str, str]) -> str | None:
        if node.domain not in ("", "ai.onnx"):
            return "not a standard operator"
        if node.op_type in operators:
            return "needs the range or the precision of float32"
        for name in (layer_of(node)[0], node.op_type):
            if name in layers:
                return layers[name]
        if any(
            a.is_ref() or a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
        ):
            return "holds a graph of its own"
        if node.op_type == "Cast":
            return None
        if not self._turned_inputs(node) and not self._turned_outputs(node):
            return "its schema has no such type"
        if any(not isinstance(v.type, ir.TensorType) for v in (*node.inputs, *node.outputs) if v is not None):
            return "works on something that is no tensor, or of unknown type"
        for i in self._turned_inputs(node):
            value = node.inputs[i]
            if value is not None and fixed(value) and not self._fits(value):
                return f"a weight reaches {self.report.overflowing[value.name or '']:g}"
        return None

    def _fits(self, value: ir.Value) -> bool:
        if value not in self.weights:
            array = weight(value)
            largest = (
                0.0 if array is None or not array.size else float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
            )
            self.weights[value] = largest <= self.range
            if largest > self.range:
                self.report.overflowing[value.name or ""] = largest
            elif array is not None and array.size and self.kind == ir.DataType.FLOAT16:
                lost = int(((array != 0) & (array.astype(np.float16) == 0)).sum())
                if lost:
                    self.report.vanishing[value.name or ""] = lost
        return self.weights[value]

    def _allowed(self, node: ir.Node, formal: Any, i: int) -> bool:
        """Whether the schema's parameter ``i`` may be of the half type."""
        schema = raw_schema(node.op_type, self.edit.model.opset)
        if schema is None or not formal:
            return False
        parameter = formal[min(i, len(formal) - 1)]
        if i >= len(formal) and parameter.option != onnx.defs.OpSchema.FormalParameterOption.Variadic:
            return False
        return f"tensor({self.kind.name.lower()})" in parameter.types

    def _turned_inputs(self, node: ir.Node) -> list[int]:
        schema = raw_schema(node.op_type, self.edit.model.opset)
        formal = [] if schema is None else schema.inputs
        return [
            i
            for i, v in enumerate(node.inputs)
            if v is not None and v.dtype == ir.DataType.FLOAT and self._allowed(node, formal, i)
        ]

    def _turned_outputs(self, node: ir.Node) -> list[int]:
        schema = raw_schema(node.op_type, self.edit.model.opset)
        formal = [] if schema is None else schema.outputs
        return [
            i for i, v in enumerate(node.outputs) if v.dtype == ir.DataType.FLOAT and self._allowed(node, formal, i)
        ]

    # the graph ---------------------------------------------------------------------------------------------------

    def rewrite(self, keep_io: bool) -> None:
        """Turn the values, and put Casts where float32 and half precision meet."""
        graph = self.edit.model.graph
        slots = {node: (self._turned_inputs(node), self._turned_outputs(node)) for node in self.low}
        halves: dict[ir.Value, None] = {}
        before = {name: value.const_value for name, value in graph.initializers.items()}
        if not keep_io:
            for value in graph.inputs:
                if value.dtype == ir.DataType.FLOAT and not value.is_initializer():
                    value.type = ir.TensorType(self.kind)
                    halves[value] = None
        for node, (_, outputs) in slots.items():
            for i in outputs:
                if node.op_type == "Cast" and attr(node, "to") == ir.DataType.FLOAT.value:
                    set_attr(node, to=self.kind.value)
                node.outputs[i].type = ir.TensorType(self.kind)
                halves[node.outputs[i]] = None
            self._attributes(node)
        for node in list(graph.all_nodes()):
            turned = slots[node][0] if node in slots else []
            for i, value in enumerate(node.inputs):
                if value is None:
                    continue
                if i in turned and value not in halves:
                    node.replace_input_with(i, self._half(value, node))
                elif i not in turned and value in halves and not (node.op_type == "Cast" and node in slots):
                    node.replace_input_with(i, self._cast(value, ir.DataType.FLOAT, node))
        self._outputs(halves, keep_io)
        for value in list(graph.initializers.values()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                graph.initializers.pop(value.name or "")
        self._tell(before)

    def _tell(self, before: Mapping[str, ir.TensorProtocol | None]) -> None:
        """What became of the weights, and which values are turned now."""
        after = {name: value.const_value for name, value in self.edit.model.graph.initializers.items()}
        sizes = {"before": 0, "after": 0, "float32": 0}
        for side, tensors in (("before", before), ("after", after)):
            for tensor in tensors.values():
                if tensor is not None:
                    sizes[side] += tensor.nbytes
                    sizes["float32"] += tensor.nbytes if side == "after" and tensor.dtype == ir.DataType.FLOAT else 0
        self.report.weight_bytes = sizes
        for node in self.low:
            name = layer_of(node)[0]
            self.report.halves.update({v.name: name for v in node.outputs if v.name})

    def _attributes(self, node: ir.Node) -> None:
        if node.op_type == "ConstantOfShape":
            held = node.attributes.get("value")
            array = np.zeros(1, np.float32) if held is None else held.as_tensor().numpy()
            node.attributes["value"] = ir.AttrTensor(
                "value", ir.Tensor(array.astype(self.kind.numpy()), dtype=self.kind)
            )

    def _half(self, value: ir.Value, node: ir.Node) -> ir.Value:
        if not fixed(value):
            return self._cast(value, self.kind, node)
        key = (value, None, self.kind)
        if key not in self.casts:
            tensor = value.const_value
            if tensor is None:
                raise AssertionError("a fixed value has a tensor")
            kind = self.kind
            shape = [int(d) for d in tensor.shape.numpy()]
            kernels = kernels_of(node.op_type, shape) if value in node.inputs[1:2] else None

            def compute() -> np.ndarray:
                return rounded(weight_of(tensor), kind.numpy(), kernels)

            graph = self.edit.model.graph
            name = self.edit.names_free(f"{value.name}:{self.report.precision}")
            made = ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))
            made.const_value = computed_tensor(compute, kind, shape, name)
            made.metadata_props.update(value.metadata_props)
            made.metadata_props[ROLE] = role_of(value).value
            graph.register_initializer(made)
            self.casts[key] = made
            self.report.made_of[name] = value.name or ""
        return self.casts[key]

    def _cast(self, value: ir.Value, to: ir.DataType, node: ir.Node) -> ir.Value:
        """The value in another type; one Cast for all readers in a graph, beside the value's maker."""
        owner = node.graph
        key = (value, owner, to)
        if key not in self.casts:
            cast = ir.node("Cast", [value], {"to": to.value}, num_outputs=1)
            name = self.edit.names_free(f"{value.name}:{to.name.lower()}")
            cast.name = self.edit.node_name(f"{value.name}/Cast")
            cast.outputs[0].name = name
            cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(to), value.shape
            maker = value.producer()
            if maker is not None and maker.graph is owner and owner is not None:
                cast.metadata_props.update(maker.metadata_props)
                owner.insert_after(maker, cast)
            elif owner is not None:
                cast.metadata_props.update(node.metadata_props)
                owner.insert_before(owner[0], cast)
            self.report.casts += 1
            self.report.inserted.add(name)
            self.casts[key] = cast.outputs[0]
        return self.casts[key]

    def _outputs(self, halves: dict[ir.Value, None], keep_io: bool) -> None:
        graph = self.edit.model.graph
        for i, value in enumerate(list(graph.outputs)):
            half = value in halves
            maker = value.producer()
            if maker is None or (half != keep_io) or value.dtype not in (self.kind, ir.DataType.FLOAT):
                continue
            name = value.name or ""
            to = ir.DataType.FLOAT if keep_io else self.kind
            value.name = self.edit.names_free(f"{name}:{self.report.precision if keep_io else 'float'}")
            end = ir.node("Cast", [value], {"to": to.value}, num_outputs=1)
            end.name = self.edit.node_name(f"{name}/Cast")
            end.metadata_props.update(maker.metadata_props)
            end.outputs[0].name, end.outputs[0].type, end.outputs[0].shape = name, ir.TensorType(to), value.shape
            graph.insert_after(maker, end)
            graph.outputs[i] = end.outputs[0]
            self.report.casts += 1
            self.report.inserted.add(name)


def weight_of(tensor: ir.TensorProtocol) -> np.ndarray:
    """A tensor's values; one in a file is closed again."""
    array = np.array(tensor.numpy())
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    return array
