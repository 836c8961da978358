"""Hierarchies of classes: ``tree=`` files of softmax and region sections (YOLO9000, Darknet9000).

Rules: read_tree of tree.c and softmax_tree of blas_kernels.cu of pjreddie/darknet. A line is ``name parent``, the
parent the number of an earlier line, or -1; neighbouring lines of the same parent are a group, and each group has a
softmax of its own. (Darknet's CPU code of a region section with a tree reads other memory than its GPU code; this is
the GPU's.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netferry.converters.darknet.names import inside
from netferry.errors import InputError, LimitExceeded, MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.model_folder import ModelFolder

MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Tree:
    """The sizes of its groups, in the order of the classes."""

    sizes: tuple[int, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return sum(self.sizes)


def read_tree(name: str, folder: ModelFolder | None) -> Tree:
    """Read the tree that a cfg names, from the cfg's folder.

    Raises:
        UnsupportedOption: the cfg has no folder.
        UnsafeFile: the path leaves it.
        InputError: there is no such file in it.
        MalformedFile: a line is no name with the number of an earlier line.
        LimitExceeded: more than 16 MiB.
    """
    if folder is None:
        raise UnsupportedOption("tree names a file, and the cfg comes from none")
    path = inside(folder, name, "tree")
    if path is None:
        raise InputError(f"names the tree {quoted(name)}, which is not in the cfg's folder")
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise LimitExceeded(f"a tree may have {MAX_BYTES:,} bytes", file=path)
    sizes: list[int] = []
    before: int | None = None
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines()):
        _, _, text = line.strip().rpartition(" ")
        try:
            parent = int(text)
        except ValueError:
            raise MalformedFile(
                f"a line is a name and a number, not {quoted(line, 60)}", file=path, line=number + 1
            ) from None
        if not -1 <= parent < number:
            raise MalformedFile(f"the parent {parent} is none of the lines before", file=path, line=number + 1)
        if parent != before:
            sizes.append(0)
        sizes[-1] += 1
        before = parent
    if not sizes:
        raise MalformedFile("the tree is empty", file=path)
    return Tree(tuple(sizes))


def tree_softmax(b: Builder, x: ir.Value, tree: Tree, axis: int) -> ir.Value:
    """Softmax within each group of an axis: groups of one size at a time, then back into the order of the classes."""
    sizes = np.array(tree.sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    parts: list[ir.Value] = []
    places: list[np.ndarray] = []
    assert x.shape is not None
    front, back = [0] * axis, [d if isinstance(d, int) else -1 for d in list(x.shape)[axis + 1 :]]
    for size in sorted(set(tree.sizes)):
        members = starts[sizes == size][:, None] + np.arange(size)
        picked = x if len(sizes) == 1 else b.op("Gather", x, b.const(members.reshape(-1), "group"), axis=axis)
        split = b.reshape(picked, [*front, len(members), size, *back])
        parts.append(b.reshape(b.op("Softmax", split, axis=axis + 1), [*front, members.size, *back]))
        places.append(members.reshape(-1))
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate(places))
    return b.op("Gather", b.op("Concat", *parts, axis=axis), b.const(order, "order"), axis=axis)
