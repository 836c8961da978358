"""Bidirectional: one ONNX node where both halves are the same kind of cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.keras.arguments import flattened
from netferry.converters.keras.config import Config
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.recurrent import BACKWARDS_IN_PLACE, flipped, same_cells, starts, steps_of
from netferry.converters.keras.layers.recurrent_cells import KINDS, Cell, cells_of
from netferry.converters.keras.layers.recurrent_masks import Steps, mask_of
from netferry.converters.keras.layers.recurrent_native import node, sayable
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, Mask
from netferry.converters.keras.registry import Slot, Unreadable, below, layer, slots_of
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_MERGE = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}
_RECURRENT = frozenset((*(k for k in KINDS if not k.endswith("Cell")), "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"))
_PAIRWISE = {"sum": "Add", "ave": "Mean", "mul": "Mul"}


def _halves(spec: Spec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The forward and backward layer's objects; without a backward layer it is the forward one, turned round."""
    raw = spec.config.get("layer")
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise MalformedFile(f"not a layer: {quoted(raw, 80)}", layer=spec.name)
    kind = str(raw.get("class_name")).rsplit(">", 1)[-1]
    if "go_backwards" not in raw["config"] and kind not in _RECURRENT:
        raise MalformedFile(f"Bidirectional takes recurrent layers, {quoted(kind)} is none", layer=spec.name)
    other = spec.config.get("backward_layer")
    if isinstance(other, dict) and isinstance(other.get("config"), dict):
        _check_pair(raw["config"], other["config"], spec.name)
    if not isinstance(other, dict) or not isinstance(other.get("config"), dict):
        other = {**raw, "config": {**raw["config"], "go_backwards": not raw["config"].get("go_backwards", False)}}
    return raw, other


def _check_pair(first: dict[str, Any], second: dict[str, Any], name: str) -> None:
    """What Keras's _verify_layer_config asks of two halves: opposite directions, otherwise alike."""
    if bool(first.get("go_backwards")) == bool(second.get("go_backwards")):
        raise MalformedFile("both layers of a Bidirectional go the same way (go_backwards)", layer=name)
    for setting in ("stateful", "return_sequences", "return_state"):
        if bool(first.get(setting)) != bool(second.get(setting)):
            raise MalformedFile(f"the layers of a Bidirectional have different values of {setting}", layer=name)


def _slots(spec: Spec) -> list[Slot]:
    first, second = _halves(spec)
    return [
        *below("forward_layer", slots_of(spec.inner(first))),
        *below("backward_layer", slots_of(spec.inner(second))),
    ]


@layer("Bidirectional", weights=_slots, mask="own")
def bidirectional(b: Builder, l: Layer, x: KT, *given: KT) -> KT | tuple[KT, ...]:
    """Both directions over one input, merged; with a mask, masked steps are zero in the sequences (Keras's rule)."""
    first, second = _halves(l.spec)
    if l.generation <= 2 and not l.spec.inner(first).trainable:
        l.network.frozen = True  # Keras 2 gives the layer, and so both, what the forward one says
    l.config.ignore("layer", "backward_layer")
    mode = l.config.take("merge_mode", "concat")
    if mode not in ("concat", "sum", "ave", "mul", None):
        raise l.config.bad("merge_mode", mode, "concat, sum, ave, mul or null")
    settings = Config(first["config"], l.path)
    sequences, stateful = settings.flag("return_sequences", False), settings.flag("stateful", False)
    mask = mask_of(l, x)
    cells = [*_cells(l, first, "forward_layer/"), *_cells(l, second, "backward_layer/")]
    one = (
        len(cells) == 2
        and same_cells(cells[:1], cells[1:])
        and all(sayable(l, cell) for cell in cells)
        and not stateful
        and not first["config"].get("go_backwards")
        and bool(second["config"].get("go_backwards"))
        and not settings.flag("time_major", False)
    )
    made, states = (
        _one_node(b, l, cells, as_float(b, x), mask, given, mode, sequences)
        if one
        else _two_layers(b, l, first, second, x, mask, given, mode, sequences)
    )
    for out in made:
        out.mask = (mask or x.mask) if sequences else None
    if not settings.flag("return_state", False):
        states = []
    return made[0] if len(made) == 1 and not states else (*made, *states)


def _cells(l: Layer, raw: dict[str, Any], path: str) -> list[Cell]:
    """The cells of a half where it is one of the plain recurrent layers, else none."""
    kind = str(raw.get("class_name")).rsplit(">", 1)[-1]
    try:
        return cells_of(kind, Config(raw["config"], l.path), l.generation, path) if kind in (*KINDS, "RNN") else []
    except Unreadable:
        return []


def _one_node(
    b: Builder,
    l: Layer,
    cells: list[Cell],
    x: KT,
    mask: Mask | None,
    given: Sequence[KT],
    mode: str | None,
    sequences: bool,
) -> tuple[list[KT], list[KT]]:
    l.rank(x, 3)
    steps = steps_of(b, l, mask)
    count = cells[0].states
    initial, _ = starts(b, l, given, [[cells[0].units]] * (2 * count), x.shape[0])
    y, h, c = node(b, l, cells, x, steps, None if initial is None else [initial[:count], initial[count:]])
    finals = [_parts(b, v, 0) for v in (h, c) if v is not None]
    states = [finals[i][d] for d in (0, 1) for i in range(count)]
    if steps is not None:
        states = [steps.state(v, None if initial is None else initial[i]) for i, v in enumerate(states)]
    kept = [KT.of(v) for v in states]
    if not sequences:
        return _merged(b, h, 0, mode), kept
    if steps is None or steps.padded:
        return _merged(b, y, 1, mode), kept
    return _placed(b, y, steps, mode), kept


def _parts(b: Builder, value: ir.Value, axis: int) -> list[ir.Value]:
    """The two directions, which lie along ``axis``."""
    return [
        b.op("Squeeze", v, b.const([axis], "axes")) for v in b.op("Split", value, outputs=2, num_outputs=2, axis=axis)
    ]


def _merged(b: Builder, value: ir.Value, axis: int, mode: str | None) -> list[KT]:
    """Merge directions along ``axis`` of (time, 2, batch, units) or (2, batch, units)."""
    order = (1, 0, 2) if axis else (0, 1)
    if mode is None:
        return [KT(v, order) for v in _parts(b, value, axis)]
    if mode == "concat":
        beside = b.op("Transpose", value, perm=[0, 2, 1, 3] if axis else [1, 0, 2])
        return [KT(b.reshape(beside, [0, 0, -1] if axis else [0, -1]), order)]
    return [KT(b.op(_MERGE[mode], value, b.const([axis], "axes"), keepdims=0), order)]


def _placed(b: Builder, y: ir.Value, steps: Steps, mode: str | None) -> list[KT]:
    """Put the steps of both directions back to their places, then merge; masked ones are zero."""
    both = [steps.outputs(part, part, backwards=bool(i), zeroed=True) for i, part in enumerate(_parts(b, y, 1))]
    return _paired(b, both, mode)


def _paired(b: Builder, both: Sequence[KT], mode: str | None) -> list[KT]:
    if mode is None:
        return [KT(v.value, v.order) for v in both]
    order = both[0].order
    values = [v.to(b, order) for v in both]
    if mode == "concat":
        return [KT(b.op("Concat", *values, axis=order.index(len(order) - 1)), order)]
    return [KT(b.op(_PAIRWISE[mode], *values), order)]


def _two_layers(
    b: Builder,
    l: Layer,
    first: dict[str, Any],
    second: dict[str, Any],
    x: KT,
    mask: Mask | None,
    given: Sequence[KT],
    mode: str | None,
    sequences: bool,
) -> tuple[list[KT], list[KT]]:
    """Halves that no single node can run: each by its own reader."""
    states = [v for v in flattened(l.kwargs.get("initial_state")) if isinstance(v, KT)] or list(given)
    half = len(states) // 2
    made: list[list[KT]] = []
    for i, (raw, name) in enumerate(((first, "forward_layer"), (second, "backward_layer"))):
        settings = raw["config"]
        turned = bool(i)  # Keras flips what the second layer gives
        half_raw = {**raw, "config": {**settings, "zero_output_for_mask": sequences}}
        in_place = bool(settings.get("go_backwards")) == turned
        given_states = states[i * half :][:half] or None
        arguments: dict[str, Any] = {"initial_state": given_states, "mask": mask}
        arguments[BACKWARDS_IN_PLACE] = in_place and turned
        out = l.inner(b, half_raw, name, x, **arguments)
        found = [v for v in flattened(out) if isinstance(v, KT)]
        if turned and sequences and not in_place:
            axis = found[0].order.index(0 if settings.get("time_major") else 1)
            found[0] = KT(flipped(b, found[0].value, axis), found[0].order)
        made.append(found)
    merged = _paired(b, [made[0][0], made[1][0]], mode)
    return merged, [*made[0][1:], *made[1][1:]]
