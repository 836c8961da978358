"""Are the trees of ai.onnx.ml trees? onnxruntime walks them without asking, for ever where a branch leads back."""

from __future__ import annotations

import numpy as np
import onnx

from netferry.errors import MalformedFile

TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"}


def check_trees(node: onnx.NodeProto) -> None:
    """Raise where a branch of a tree ensemble leads back to a node above it.

    Raises:
        MalformedFile: it does, or the lists of nodes differ in length.
    """
    lists = {a.name: np.array(a.ints, np.int64) for a in node.attribute if a.name.startswith("nodes_") and a.ints}
    yes, no = lists.get("nodes_truenodeids"), lists.get("nodes_falsenodeids")
    if yes is None or no is None:
        return  # a function's, or told by onnx's check
    layer = node.name or node.op_type
    modes = next((list(a.strings) for a in node.attribute if a.name == "nodes_modes"), [])
    trees, ids = (lists.get(name, np.zeros_like(yes)) for name in ("nodes_treeids", "nodes_nodeids"))
    if node.op_type == "TreeEnsemble":  # of version 5: the ids are places, or places of leaves
        ids = np.arange(len(yes))
        ends = [lists.get(name, np.zeros_like(yes)) for name in ("nodes_trueleafs", "nodes_falseleafs")]
    else:
        ends = [np.array([m == b"LEAF" for m in modes] if modes else [0] * len(yes), np.int64)] * 2
    sizes = {len(a) for a in (trees, ids, yes, no, *ends)}
    if len(sizes) > 1:
        raise MalformedFile(f"the nodes of its trees are told in lists of {min(sizes)} to {max(sizes)}", layer=layer)
    if all(bool((to[end == 0] > ids[end == 0]).all()) for to, end in zip((yes, no), ends, strict=True)):
        return  # numbered from the root on, as all exporters do
    places = list(zip(trees.tolist(), ids.tolist(), strict=True))
    at = {place: i for i, place in enumerate(places)}
    below: list[list[int]] = [[] for _ in places]
    for to, end in zip((yes, no), ends, strict=True):
        for i, (child, leaf) in enumerate(zip(to.tolist(), end.tolist(), strict=True)):
            if not leaf and (j := at.get((places[i][0], child))) is not None:
                below[i].append(j)
    if _has_a_circle(below):
        raise MalformedFile("a branch of its trees leads back to a node above it", layer=layer)


def _has_a_circle(below: list[list[int]]) -> bool:
    """Whether nodes stay where those that nothing leads to are taken away, again and again."""
    above = [0] * len(below)
    for children in below:
        for child in children:
            above[child] += 1
    free = [i for i, n in enumerate(above) if n == 0]
    left = len(below)
    while free:
        left -= 1
        for child in below[free.pop()]:
            above[child] -= 1
            if above[child] == 0:
                free.append(child)
    return left > 0
