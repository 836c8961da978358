"""What each operator changes when its data come in the layout before a Transpose: axes, settings, constants.

With permutation ``p`` axis ``i`` of the layout that the operator works on now is axis ``p[i]`` of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.passes.constants import fixed, ints, setting, weight
from netferry.converters.passes.dims_rules import BROADCAST, UNARY
from netferry.converters.passes.editing import Edit, attr, change_tensor, feed, given, set_attr, sole, word
from netferry.schemas.ir import ir
from netferry.schemas.layers import role_of


@dataclass
class Move:
    """One operator on its way to the other layout."""

    edit: Edit
    node: ir.Node
    perm: list[int]

    @property
    def rank(self) -> int:
        """Rank of the data."""
        return len(self.perm)

    def axis(self, axis: int) -> int:
        """The axis in the other layout."""
        return self.perm[axis % self.rank]

    def reorder(self, values: Sequence[int] | Sequence[float]) -> list:
        """One entry per axis, in the order of the other layout."""
        out = [values[0]] * self.rank
        for i, value in enumerate(values):
            out[self.perm[i]] = value
        return out

    def set_ints(self, i: int, values: Sequence[int], name: str) -> None:
        """Give the i-th input other integers."""
        feed(self.node, i, self.edit.at(self.node).const(list(values), name))

    def constant(self, i: int) -> None:
        """Turn the i-th input, a constant that broadcasts, to the other layout."""
        value = given(self.node, i)
        array = weight(value)
        if value is None or array is None or array.size == 1:
            return
        wide = array.reshape((1,) * (self.rank - array.ndim) + array.shape)
        back = sorted(range(self.rank), key=self.perm.__getitem__)
        turned = np.transpose(wide, back)
        if len(value.uses()) == 1 and not value.is_graph_output():
            change_tensor(value, turned)
            self.edit.dims.forget(value)
            return
        dtype = value.dtype or ir.DataType.FLOAT
        tensor = ir.Tensor(np.asarray(turned, order="C"), dtype=dtype)
        feed(self.node, i, self.edit.at(self.node).param("turned", tensor, role=role_of(value)))


def _yes(move: Move) -> bool:
    return True


def _nothing(move: Move) -> None:
    return None


def _first(node: ir.Node) -> list[int]:
    return [0]


def _all(node: ir.Node) -> list[int]:
    return list(range(len(node.inputs)))


def _does(node: ir.Node) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """How an operator moves."""

    apply: Callable[[Move], None] = _nothing
    check: Callable[[Move], bool] = _yes
    inputs: Callable[[ir.Node], list[int]] = _first
    """which inputs carry the layout"""
    carries: Callable[[ir.Node], bool] = _does
    """whether its outputs do"""


RULES: dict[str, Rule] = {}


def moved_data(node: ir.Node) -> list[ir.Value]:
    """Inputs of a node that carry the layout."""
    values = [given(node, i) for i in RULES[node.op_type].inputs(node)]
    return [v for v in values if v is not None]


def _axis_attribute(default: int) -> Callable[[Move], None]:
    def apply(move: Move) -> None:
        set_attr(move.node, axis=move.axis(attr(move.node, "axis", default)))

    return apply


def _keeps(node: ir.Node) -> bool:
    return bool(attr(node, "keepdims", 1))


def _remaining_in_order(move: Move, axes: Sequence[int]) -> bool:
    gone = {a % move.rank for a in axes}
    left = [move.perm[i] for i in range(move.rank) if i not in gone]
    return left == sorted(left)


def _check_reduce(move: Move) -> bool:
    axes = given(move.node, 1)
    if axes is None:
        return not attr(move.node, "noop_with_empty_axes", 0)
    found = ints(axes)
    return found is not None and len(found) > 0 and (_keeps(move.node) or _remaining_in_order(move, found))


def _reduce(move: Move) -> None:
    found = ints(given(move.node, 1))
    if found is not None:
        move.set_ints(1, sorted(move.axis(a) for a in found), "axes")


def _check_arg(move: Move) -> bool:
    return _keeps(move.node) or _remaining_in_order(move, [attr(move.node, "axis", 0)])


def _check_pad(move: Move) -> bool:
    pads, axes = ints(given(move.node, 1)), given(move.node, 3)
    if pads is None or (axes is not None and ints(axes) is None):
        return False
    return axes is not None or len(pads) == 2 * move.rank


def _pad(move: Move) -> None:
    pads = ints(given(move.node, 1)) or []
    if given(move.node, 3) is not None:
        axes = ints(given(move.node, 3)) or []
        move.set_ints(3, [move.axis(a) for a in axes], "axes")
    else:
        half = len(pads) // 2
        move.set_ints(1, [*move.reorder(pads[:half]), *move.reorder(pads[half:])], "pads")


def _check_slice(move: Move) -> bool:
    starts, axes = ints(given(move.node, 1)), given(move.node, 3)
    return (starts is not None) if axes is None else ints(axes) is not None


def _slice(move: Move) -> None:
    axes = ints(given(move.node, 3)) if given(move.node, 3) is not None else None
    if axes is None:
        axes = list(range(len(ints(given(move.node, 1)) or [])))
    move.set_ints(3, [move.axis(a) for a in axes], "axes")


def _check_resize(move: Move) -> bool:
    node = move.node
    text = word(node, "mode", "nearest")
    if "axes" in node.attributes or "crop" in str(attr(node, "coordinate_transformation_mode", "")):
        return False
    held = {i: setting(given(node, i)) for i in (2, 3)}
    found = {i: array for i, array in held.items() if array is not None and array.size}
    shape = move.edit.shape(given(node, 0))
    if len(found) != 1 or shape is None:
        return False
    (slot, array), *_ = found.items()
    same = [float(x) == 1.0 if slot == 2 else n == int(x) for x, n in zip(array.reshape(-1), shape, strict=True)]
    turned = move.reorder(same)
    return text == "nearest" or (move.rank > 2 and turned[0] and turned[1])  # runtimes interpolate channels-first only


def _resize(move: Move) -> None:
    for i in (2, 3):
        array = setting(given(move.node, i))
        if array is not None and array.size:
            turned = np.array(move.reorder(list(array.reshape(-1))), array.dtype)
            feed(move.node, i, move.edit.at(move.node).const(turned, "scales" if i == 2 else "sizes"))


def _check_listed(move: Move) -> bool:
    found = ints(given(move.node, 1))
    return found is not None and len(found) == move.rank


def _listed(move: Move) -> None:
    move.set_ints(1, move.reorder(ints(given(move.node, 1)) or []), "sizes")


def _check_quantized(move: Move) -> bool:
    scale = move.edit.rank(given(move.node, 1))
    return scale in (0, 1) and not attr(move.node, "block_size", 0)


def _channels_stay(move: Move) -> bool:
    return move.rank > 1 and move.perm[1] == 1 and move.perm[0] == 0 and sole(move.node)


def _check_cumsum(move: Move) -> bool:
    return ints(given(move.node, 1)) is not None


def _cumsum(move: Move) -> None:
    axis = (ints(given(move.node, 1)) or [0])[0]
    feed(move.node, 1, move.edit.at(move.node).const(np.array(move.axis(axis), np.int64), "axis"))


def _check_split(move: Move) -> bool:
    return given(move.node, 1) is None or fixed(given(move.node, 1))


RULES.update(dict.fromkeys(UNARY, Rule()))
RULES["Dropout"] = Rule(check=lambda move: sole(move.node))
RULES.update(dict.fromkeys(BROADCAST, Rule(inputs=_all)))
RULES["Concat"] = Rule(_axis_attribute(0), inputs=_all)
RULES["Split"] = Rule(_axis_attribute(0), _check_split)
RULES.update(dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), Rule(_axis_attribute(-1))))
RULES["TopK"] = Rule(_axis_attribute(-1))
_REDUCE = Rule(_reduce, _check_reduce, carries=_keeps)
for _kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
    RULES[f"Reduce{_kind}"] = _REDUCE
RULES.update(dict.fromkeys(("ArgMax", "ArgMin"), Rule(_axis_attribute(0), _check_arg, carries=_keeps)))
RULES["Pad"] = Rule(_pad, _check_pad)
RULES["Slice"] = Rule(_slice, _check_slice)
RULES["Resize"] = Rule(_resize, _check_resize)
RULES.update(dict.fromkeys(("Expand", "Tile"), Rule(_listed, _check_listed)))
RULES.update(dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), Rule(_axis_attribute(1), _check_quantized)))
RULES["CumSum"] = Rule(_cumsum, _check_cumsum)
RULES.update(dict.fromkeys(("BatchNormalization", "InstanceNormalization"), Rule(check=_channels_stay)))
