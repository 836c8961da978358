"""Reshapes that split or join axes where they lie, so that a channels-first picture needs no Transpose."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.keras.layout import KT, channels_first
from netferry.schemas.graph import Builder, shape_of


def groups_of(have: Sequence[int], want: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Match runs of dimensions with equal products: [(places in ``have``, places in ``want``), …].

    None where a dimension is 0, or the products never meet.
    """
    if 0 in have or 0 in want:
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(have) or j < len(want):
        left: list[int] = []
        right: list[int] = []
        p = q = 1
        if i < len(have):
            left.append(i)
            p *= have[i]
            i += 1
        if j < len(want):
            right.append(j)
            q *= want[j]
            j += 1
        while p != q:
            if p < q and i < len(have):
                left.append(i)
                p *= have[i]
                i += 1
            elif q < p and j < len(want):
                right.append(j)
                q *= want[j]
                j += 1
            else:
                return None
        if not left or not right:
            # only ones are left on one side: they join the group before
            if p != 1 or not groups:
                return None
            groups[-1][0].extend(left)
            groups[-1][1].extend(right)
            continue
        groups.append((left, right))
    return groups


def grouped(b: Builder, x: KT, sizes: Sequence[int], target: Sequence[int]) -> KT | None:
    """Reshape the axes behind the batch from ``sizes`` to ``target`` without leaving the order they lie in.

    Axes that are joined must lie side by side in Keras's order; a Transpose brings them there where they do not.
    Returns None where the plain way (Keras's own order) is as good.
    """
    big = [i for i, d in enumerate(target) if d != 1]
    if len(target) in (3, 4) and len(big) <= 1 and (not big or big[0] == len(target) - 1) and x.rank == 2:
        # a vector that becomes the channels of a 1 x 1 picture
        order = channels_first(len(target) + 1)
        if x.wide is not None and len(shape_of(x.wide)) == len(target) + 1:
            return KT(x.wide, order)
        return KT(b.reshape(x.value, [0, target[-1], *([1] * (len(target) - 1))]), order)
    if x.order == tuple(range(x.rank)) or x.order[0] != 0:
        return None
    groups = groups_of(sizes, target)
    if groups is None or len(groups) < 2:
        return None
    ordered = sorted(groups, key=lambda g: min(x.order.index(1 + i) for i in g[0]))
    lying = (0, *(1 + i for left, _ in ordered for i in left))
    value = x.to(b, lying)
    order = (0, *(1 + j for _, right in ordered for j in right))
    dims = [target[j - 1] for j in order[1:]]
    if shape_of(value)[1:] == tuple(dims):
        return KT(value, order)
    return KT(b.reshape(value, [0, *dims]), order)
