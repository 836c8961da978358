"""A batch that an exporter baked in, made dynamic: sizes on the way are followed symbolically and constants mended.

Networks are traced at one batch size, often 1, and that number ends up in the inputs' shapes, in the constants of
Reshape, Expand and Slice, and in states that are made up inside. The batch is followed from the inputs through every
node; where a constant pins it, the constant is mended. What mixes samples is refused: no dynamic batch has a meaning
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netferry.converters.passes.dims_rules import BROADCAST
from netferry.converters.passes.opset_rules import Cannot, Rewriter
from netferry.converters.passes.opset_types import annotate
from netferry.converters.passes.rebatch_mend import Key, Mended, Mender, Refused
from netferry.errors import MalformedFile, UnsupportedError, UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import graphs_of, layer_of, read_by
from netferry.schemas.model import Model

_RECURRENT = ("LSTM", "GRU", "RNN")
_PLACED = {
    **dict.fromkeys(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
                     "GlobalLpPool", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LRN",
                     "DepthToSpace", "SpaceToDepth"], 0),
}  # fmt: skip
"""operators that take the batch on one axis only"""
_ATTEMPTS = 64
"""ways through ambiguous reshapes that are tried"""
_ALONG = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "ArgMax": 0, "ArgMin": 0, "TopK": -1, "LpNormalization": -1,
    "Split": 0, "Concat": 0, "Gather": 0, "GatherElements": 0, "ScatterElements": 0, "Compress": 0,
}  # fmt: skip
"""operators that work along one axis, with its default"""


def rebatch(
    model: Model, axes: Mapping[str, int] | None = None, *, traced: int | None = None, name: str = "batch"
) -> Mended:
    """Make the batch of a model dynamic, in place.

    Args:
        model: the model; as it was where this raises.
        axes: the batch's axis of each input that has one; by default axis 0 of the inputs that share its size.
        traced: the batch size that was baked in; by default the inputs' own.
        name: the name of the dynamic dimension.

    Raises:
        UsageError: no such input or axis, or the batch cannot be told from the inputs.
        UnsupportedError: a node mixes samples, or pins the batch in a way that cannot be mended.
    """
    given, size = _choose(model, axes, traced)
    annotate(model.ir)
    choices: dict[Key, int] = {}
    first: UnsupportedError | None = None
    for _ in range(_ATTEMPTS):
        work = model.copy()
        inputs = {v.name: v for v in work.graph.inputs}
        for value, axis in given.items():
            dims: list[int | ir.SymbolicDim] = list(value.shape or ())
            dims[axis] = ir.SymbolicDim(name)
            inputs[value.name].shape = ir.Shape(dims)
        mended = Mended(size, {v.name or "": axis for v, axis in given.items()})
        walk = _Walk(work, mended, name, choices)
        try:
            walk.go()
        except UnsupportedError as error:
            first = first or error
            if not _other_choice(choices, walk.chosen):
                break
        else:
            model.ir = work.ir
            return mended
    assert first is not None
    raise first


def _other_choice(choices: dict[Key, int], chosen: dict[Key, int]) -> bool:
    """Take another way at the last reshape that leaves one; False where none does."""
    for key in reversed(chosen):
        at = choices.pop(key, 0)
        if at + 1 < chosen[key]:
            choices[key] = at + 1
            return True
    return False


def _choose(model: Model, axes: Mapping[str, int] | None, traced: int | None) -> tuple[dict[ir.Value, int], int]:
    inputs = {v.name: v for v in model.graph.inputs if not v.is_initializer()}
    if axes:
        for name, axis in axes.items():
            if name not in inputs:
                raise UsageError(f"no input {quoted(name)}; there are {', '.join(map(quoted, map(str, inputs)))}")
            if not 0 <= axis < len(inputs[name].shape or ()):
                raise UsageError(f"input {quoted(name)} has no axis {axis}")
    firsts = {v: v.shape[0] for v in inputs.values() if v.shape is not None and len(v.shape) > 0}
    if axes:
        given = {inputs[name]: axis for name, axis in axes.items()}
    else:
        whole = [d for v, d in firsts.items() if isinstance(d, int) and len(v.shape or ()) > 1]
        most = max(set(whole), key=whole.count) if whole else None
        given = {v: 0 for v, d in firsts.items() if not isinstance(d, int) or d == most}
    fixed = {d for v, axis in given.items() if isinstance(d := (v.shape or [None])[axis], int)}
    if not given:
        raise UsageError("no input has a batch", hint="--axis NAME=AXIS says where it is")
    if len(fixed) > 1:
        raise UsageError(f"the inputs have different batch sizes: {', '.join(map(str, sorted(fixed)))}")
    return given, traced or next(iter(fixed), 1)


class _Walk(Mender):
    """One graph, node by node."""

    def go(self) -> None:
        refused: list[str] = []
        for node in list(self.model.graph):
            try:
                self._node(node)
            except (Refused, Cannot, MalformedFile) as error:
                why = error.reason if isinstance(error, MalformedFile) else error
                refused.append(f"\n  {quoted(layer_of(node)[0])}  ({node.op_type})  {why}")
                if len(refused) == 20:
                    break
                self.sizes.unknown(node)
        if refused:
            n = len(refused)
            raise UnsupportedError(
                f"the batch cannot be made dynamic: {n} node{'s' if n > 1 else ''} {'keep' if n > 1 else 'keeps'} it"
                + "".join(refused),
                file=self.model.source.files[0] if self.model.source.files else None,
            )
        self._declare()

    def _node(self, node: ir.Node) -> None:
        carrying = [v for v in node.inputs if v is not None and self.axis(v) is not None]
        inner = [g for a in node.attributes.values() for g in graphs_of(a)]
        if inner and any(self.axis(v) is not None for v in read_by(node)):
            raise Refused("a branch or loop reads the batch")
        if carrying and node.domain in ("", "ai.onnx"):
            b = Rewriter(self.model.graph, node, self.model.opset, self.names)
            self._refuse_along(node)
            mend: Callable[[Rewriter], None] | None = getattr(self, f"_mend_{node.op_type.lower()}", None)
            if mend is not None:
                mend(b)
            elif node.op_type in BROADCAST or node.op_type == "Concat":
                self._join(b)
            elif node.op_type in _RECURRENT:
                self._mend_recurrent(b)
        self.sizes.node(node)
        if carrying and node.op_type not in ("Shape", "Size"):
            if not any(self.axis(v) is not None for v in node.outputs):
                known = all(self.sizes.shape(v) is not None for v in node.outputs if v.name)
                raise Refused("the batch disappears" if known else "the size of its result is not known")
            for value in node.outputs:
                self._check(value)
                if node.op_type != "Reshape" and any(v in self.fast for v in carrying):
                    self.fast.add(value)

    def _check(self, value: ir.Value) -> None:
        """With the batch that was baked in, the size must be what it was."""
        before, now = self.before.get(value), self.sizes.shape(value)
        if before is None or now is None:
            return
        if len(before) != len(now):
            raise Refused(f"its result would have {len(now)} axes, not {len(before)}")
        for old, new in zip(before, now, strict=True):
            at = self._at(new)
            if isinstance(old, int) and at is not None and at != old:
                raise Refused(f"its result would have size {at} where it had {old}")

    def _refuse_along(self, node: ir.Node) -> None:
        place = self.axis(node.inputs[0]) if node.inputs else None
        if place is None and node.op_type not in ("Concat", *_RECURRENT):
            return
        if node.op_type in _PLACED and place != _PLACED[node.op_type]:
            raise Refused(f"takes the batch on axis {_PLACED[node.op_type]}, it comes on axis {place}")
        if node.op_type in _ALONG:
            for value in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
                dims, at = (None, None) if value is None else (self.sizes.shape(value), self.axis(value))
                held = node.attributes.get("axis")
                axis = _ALONG[node.op_type] if held is None else held.as_int()
                if dims is not None and at is not None and axis % len(dims) == at:
                    raise Refused("works along the batch")
        if node.op_type in ("LayerNormalization", "RMSNormalization") and place is not None:
            held = node.attributes.get("axis")
            rank = len(self.sizes.shape(node.inputs[0]) or ())  # pyright: ignore[reportArgumentType]
            if (-1 if held is None else held.as_int()) % rank <= place:
                raise Refused("works along the batch")

    # the end ------------------------------------------------------------------------------------------------------

    def _declare(self) -> None:
        """Say the new sizes: of outputs as they were followed, inside the graph as ONNX infers them."""
        graph = self.model.graph
        for node in graph:
            for value in node.outputs:
                value.shape = None
        for value in graph.outputs:
            dims = self.sizes.shape(value)
            if dims is None:
                raise UnsupportedError(f"the shape of the output {quoted(value.name or '')} is not known any more")
            at = self.axis(value)
            self.mended.outputs[value.name or ""] = at
            shown = [d.number if d.number is not None else d.atom for d in dims]
            value.shape = ir.Shape([None if isinstance(s, str) and s.startswith("?") else s for s in shown])
        annotate(self.model.ir)
