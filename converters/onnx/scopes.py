"""What exporters tell of the layer that a node came from: metadata, paths in names, names of parameters.

Known writers: torch's dynamo exporter (``pkg.torch.onnx.name_scopes``), torch's TorchScript exporter
(``/layer1/layer1.0/conv1/Conv``), tf2onnx and Keras (``StatefulPartitionedCall/model/conv1/Conv2D``), older torch,
MATLAB, MXNet and others with flat names of nodes, where ``layer1.0.conv1.weight`` still tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of
from netferry.schemas.merged import merged_parameters

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_PARAMETER = re.compile(
    r"^(.+)[./](weight|bias|kernel|gamma|beta|embeddings|alpha|slope|running_mean|running_var|moving_mean|"
    r"moving_variance|in_proj_weight|in_proj_bias|depthwise_kernel|pointwise_kernel|recurrent_kernel)(_bias)?(:\d+)?$"
)
_WRAPPER = re.compile(r"^((Stateful)?PartitionedCall|model|functional|sequential|serving_default)(_\d+)?$")
_MADE = re.compile(r"__\d+$|:\d+$")
"""what tf2onnx puts behind the names of nodes that it makes, and TensorFlow behind names of values"""
MOVERS = ("Identity", "Transpose", "Reshape", "Cast", "Unsqueeze")
"""what may stand between a parameter and the node that uses it"""
_LONGEST = 4096


class Scope(NamedTuple):
    """Where a node stands.

    Attributes:
        module: the module's path, parts joined by ``.`` (torch) or ``/``; "" for the whole network.
        call: the operation in it.
        kind: the module's class, where the file tells it.
        family: torch, tensorflow or parameter (known by the name of a parameter only).
    """

    module: str
    call: str
    kind: str | None = None
    family: str = "torch"


def scopes_of(graph: ir.Graph) -> tuple[dict[ir.Node, Scope], set[str]]:
    """The scopes of the nodes of a graph that have one, and the modules that hold further modules."""
    nodes = list(graph)
    merged = {place: one.name for one in merged_parameters(graph) for place in one.places}
    found: dict[ir.Node, Scope] = {}
    paths: dict[ir.Node, list[str]] = {}
    for node in nodes:
        told, name = node.metadata_props.get(_SCOPES), node.name or ""
        scope = None if told is None else _dynamo(node, told)
        if scope is None and name.startswith("/"):
            scope = _torchscript(name)
        if scope is not None:
            found[node] = scope
        elif "/" in name and not name.startswith("/"):
            paths[node] = _parts(name)
    if len(paths) < 2:
        paths.clear()  # one name with a slash is no path
    strip = _common(paths.values())
    layers = _submodels(paths, strip)
    for node, parts in paths.items():
        rest = parts[strip:]
        module = _layer_path(rest, layers)
        found[node] = Scope(module, rest[-1] if rest else parts[-1], family="tensorflow")
    modules = {scope.module for scope in found.values() if scope.family == "torch"}
    for node in nodes:
        kernel = None if node.op_type in MOVERS else _parameter(node, strip, layers, merged)
        if kernel is None or (node in found and (kernel.module in modules or kernel.module == found[node].module)):
            continue  # a module of that name computes elsewhere: the exporter shared an equal parameter
        found[node] = kernel
    holders = {"", *("/".join(path) for path in layers)}
    for module in {s.module for s in found.values() if s.family == "torch"}:
        parts = module.split(".")
        holders.update(".".join(parts[:n]) for n in range(1, len(parts)))
    return found, holders


def parameter_name(value: ir.Value | None) -> str | None:
    """The name under which a node reads a parameter; behind an Identity that shares it, the name there."""
    if value is None or not value.name:
        return None
    node = value.producer()
    while node is not None and node.op_type in MOVERS[1:] and node.inputs[0]:
        value = node.inputs[0]
        node = value.producer()
    if value.is_initializer():
        return value.name if role_of(value) != Role.CONSTANT else None
    source = node.inputs[0] if node is not None and node.op_type == "Identity" else None
    return value.name if source is not None and source.is_initializer() else None


def _dynamo(node: ir.Node, told: str) -> Scope | None:
    names = _quoted(told)
    if not names:
        return None
    if any(name.startswith("_empty_nn_module_stack") for name in names[:-1]):
        return None
    classes = _quoted(node.metadata_props.get(_CLASSES))
    module = names[-2] if len(names) > 1 else ""
    kind = classes[len(names) - 2].rpartition(".")[2] if module and len(classes) == len(names) else None
    return Scope(module, names[-1], kind or None)


def _quoted(text: str | None) -> list[str]:
    """The items of a list of strings as Python prints it; nothing is evaluated."""
    if text is None or len(text) > _LONGEST or not text.startswith("["):
        return []
    return [a or b for a, b in _QUOTED.findall(text)]


def _torchscript(name: str) -> Scope | None:
    """``/layer1/layer1.0/conv1/Conv``: an item of a list repeats the list's name."""
    if len(name) > _LONGEST:
        return None
    *scopes, call = [p for p in name.split("/") if p] or [""]
    path: list[str] = []
    for part in scopes:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return Scope(".".join(path), call) if call else None


def is_made(node: ir.Node) -> bool:
    """Whether tf2onnx put the node in between, named after the node that it serves."""
    return _MADE.search(node.name or "") is not None and node.op_type in (*MOVERS, "Squeeze")


def _parts(name: str) -> list[str]:
    return [p for p in _MADE.sub("", name).split("/") if p][:64]


def _common(paths: Iterable[list[str]]) -> int:
    """How many first parts of TensorFlow's names only wrap the whole network."""
    found = [p for p in paths if p]
    if not found:
        return 0
    n = 0
    while True:
        first = {p[n] for p in found if len(p) > n}
        following = {p[n + 1] for p in found if len(p) > n + 1}
        wraps = len(first) == 1 and all(len(p) > n for p in found)
        if not wraps or not (_WRAPPER.match(next(iter(first))) or len(following) > 1):
            return n
        if not following:
            return n
        n += 1


def _submodels(paths: dict[ir.Node, list[str]], strip: int) -> set[tuple[str, ...]]:
    """Paths that are networks or blocks of their own: two or more of their parts have parameters."""
    inside: dict[tuple[str, ...], set[str]] = {}
    for node, parts in paths.items():
        if not any(parameter_name(v) for v in node.inputs):
            continue
        rest = parts[strip:]
        for n in range(1, len(rest) - 1):
            inside.setdefault(tuple(rest[:n]), set()).add(rest[n])
    return {path for path, children in inside.items() if len(children) > 1}


def _layer_path(parts: list[str], submodels: set[tuple[str, ...]]) -> str:
    """The layer in a path: its first part, or the first behind networks inside the network."""
    n = 1
    while n < len(parts) - 1 and tuple(parts[:n]) in submodels:
        n += 1
    return "/".join(parts[:n]) if len(parts) > 1 else ""


def _parameter(
    node: ir.Node, strip: int, submodels: set[tuple[str, ...]], merged: dict[tuple[ir.Node, int], str]
) -> Scope | None:
    """The layer that the first named parameter of a node belongs to."""
    for i, value in enumerate(node.inputs):
        name = merged.get((node, i)) or parameter_name(value)
        if name is None or "::" in name:
            continue
        if match := _PARAMETER.match(name):
            module = match[1]
            return Scope(module, node.op_type, family="parameter")
        if "/" in name and strip:
            rest = _parts(name)[strip:]
            if len(rest) > 1:
                return Scope(_layer_path(rest, submodels), rest[-1], family="tensorflow")
    return None
