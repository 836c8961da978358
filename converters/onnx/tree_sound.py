"""Are the trees of ai.onnx.ml trees? onnxruntime walks them without asking, for ever where a branch leads back."""

from __future__ import annotations

import numpy as np
import onnx

from netferry.errors import MalformedFile

TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"}
Lists = dict[str, np.ndarray]


def check_trees(node: onnx.NodeProto) -> None:
    """Raise where the lists of a tree ensemble are no trees.

    Raises:
        MalformedFile: a branch leads back to a node above it or to no node, a node is there twice, a leaf gives a
            target that is not there, or lists that belong together differ in length.
    """
    lists = {a.name: np.array(a.ints, np.int64) for a in node.attribute if a.ints}
    yes, no = lists.get("nodes_truenodeids"), lists.get("nodes_falsenodeids")
    if yes is None or no is None:
        return  # a function's, or told by onnx's check
    layer = node.name or node.op_type
    modes = next((list(a.strings) for a in node.attribute if a.name == "nodes_modes"), [])
    trees, ids = (lists.get(name, np.zeros_like(yes)) for name in ("nodes_treeids", "nodes_nodeids"))
    numbered = node.op_type == "TreeEnsemble"  # of version 5: the ids are places, or places of leaves
    if numbered:
        ids = np.arange(len(yes))
        ends = [lists.get(name, np.zeros_like(yes)) for name in ("nodes_trueleafs", "nodes_falseleafs")]
    else:
        ends = [np.array([m == b"LEAF" for m in modes] if modes else [0] * len(yes), np.int64)] * 2
    features = lists.get("nodes_featureids", np.zeros_like(yes))
    sizes = {len(a) for a in (trees, ids, yes, no, features, *ends)}
    if len(sizes) > 1:
        raise MalformedFile(f"the nodes of its trees are told in lists of {min(sizes)} to {max(sizes)}", layer=layer)
    branches = np.ones_like(yes) if numbered else ends[0] == 0
    if bool((features[branches != 0] < 0).any()):
        raise MalformedFile("a branch of its trees asks for a feature below 0", layer=layer)
    _check_leaves(node, lists, layer)
    if numbered:
        _check_places(lists, (yes, no), ends, layer)
    else:
        _check_ids(lists, trees, ids, [to[branches] for to in (yes, no)], trees[branches], layer)
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


def _check_leaves(node: onnx.NodeProto, lists: Lists, layer: str) -> None:
    """What leaves give: lists of one length, targets that are there."""
    kind = {"TreeEnsembleClassifier": "class", "TreeEnsemble": "leaf"}.get(node.op_type, "target")
    names = ("leaf_targetids",) if kind == "leaf" else (f"{kind}_ids", f"{kind}_nodeids", f"{kind}_treeids")
    told = [len(lists.get(name, ())) for name in names]  # a list without numbers is a list: onnxruntime reads it
    told += [len(a.floats) for a in node.attribute if a.name == f"{kind}_weights" and a.floats]
    told += [int(np.prod(a.t.dims)) for a in node.attribute if a.name == "leaf_weights" and a.HasField("t")]
    if len(set(told)) > 1:
        raise MalformedFile(f"the leaves of its trees are told in lists of {min(told)} to {max(told)}", layer=layer)
    targets = lists.get(names[0], np.zeros(0, np.int64))
    if kind == "class":
        count = max(
            (len(a.ints) + len(a.strings) for a in node.attribute if a.name.startswith("classlabels_")), default=0
        )
    else:
        count = next((a.i for a in node.attribute if a.name == "n_targets" and not a.ref_attr_name), None)
    if count is None or (kind == "class" and not count):  # a function's, or the default
        return
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < count:
        raise MalformedFile(f"a leaf of its trees gives a target that is none of its {count}", layer=layer)


def _check_ids(
    lists: Lists, trees: np.ndarray, ids: np.ndarray, children: list[np.ndarray], of: np.ndarray, layer: str
) -> None:
    """Nodes by the numbers that they have in their trees: each once, and there where something leads to it."""
    kind = "class" if "class_nodeids" in lists else "target"
    none = np.zeros(0, np.int64)
    asked = [(of, child) for child in children]
    asked.append((lists.get(f"{kind}_treeids", none), lists.get(f"{kind}_nodeids", none)))
    known = np.unique(_pairs(trees, ids))
    if len(known) < len(ids):
        raise MalformedFile("a node of its trees is there twice", layer=layer)
    if not all(bool(np.isin(_pairs(tree, child), known).all()) for tree, child in asked):
        raise MalformedFile("its trees lead to a node that is not there", layer=layer)


def _pairs(trees: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Pairs of numbers as one value each."""
    pairs = np.empty(len(ids), np.dtype([("tree", np.int64), ("id", np.int64)]))
    pairs["tree"], pairs["id"] = trees, ids
    return pairs


def _check_places(lists: Lists, children: tuple[np.ndarray, ...], ends: list[np.ndarray], layer: str) -> None:
    """Nodes and leaves by their places in the lists."""
    nodes, leaves = len(children[0]), len(lists.get("leaf_targetids", ()))
    beyond = [lists.get("tree_roots", np.zeros(0, np.int64))]
    bounds = [nodes]
    for to, end in zip(children, ends, strict=True):
        beyond += [to[end == 0], to[end != 0]]
        bounds += [nodes, leaves]
    for places, bound in zip(beyond, bounds, strict=True):
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < bound:
            raise MalformedFile("its trees lead to a node that is not there", layer=layer)


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
