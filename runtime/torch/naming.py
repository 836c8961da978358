"""Names of modules: the source's layers, or what an exporter of torch left in names of weights and nodes."""

from __future__ import annotations

import functools
import keyword
import re
from collections.abc import Iterable

from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER

_ODD = re.compile(r"[^0-9A-Za-z_]+")
_WEIGHT = re.compile(r"[._/](weight|bias|kernel|gamma|beta|embeddings|alpha|slope|W|R|B|scale)(:0)?$")
_ATTRIBUTE = re.compile(r"^(?!val_\d|\d+$)\w+(\.\w+)*$")
CALL = re.compile(r"_\d+$")
"""what torch's exporter puts behind a module's name when it is called again"""


def identifier(name: str) -> str:
    """A name that Python code can hold."""
    text = _ODD.sub("_", name).strip("_") or "value"
    return f"_{text}" if text[0].isdigit() else text


def path_parts(name: str) -> list[str]:
    """A name as parts of a module path: ``block1/conv`` and ``block1.conv`` are a conv inside block1."""
    return [*_path_parts(name)]


@functools.lru_cache(1024)
def _path_parts(name: str) -> tuple[str, ...]:
    found: list[str] = []
    for part in name.replace("/", ".").split("."):
        plain = part if part.isascii() and part.isalnum() else _ODD.sub("_", part).strip("_")
        if plain:
            found.append(f"{plain}_" if keyword.iskeyword(plain) else plain)
    return tuple(found)


def says_path(weight: str) -> bool:
    """Whether a weight's name tells the module that it belongs to."""
    return _WEIGHT.search(weight) is not None


def is_attribute(name: str) -> bool:
    """Whether a name is the path of a module's attribute (``blocks.0.table``), none that an exporter made up."""
    return _ATTRIBUTE.match(name) is not None


def wanted_path(node: ir.Node, weight: str | None) -> list[str]:
    """Where the module of a node belongs, before names are made unique."""
    layer = node.metadata_props.get(LAYER)
    if layer:
        return path_parts(layer)
    if weight and (match := _WEIGHT.search(weight)):
        return path_parts(weight[: match.start()])
    name = node.name or ""
    if "/" in name:
        found: list[str] = []
        for piece in [p for p in name.split("/") if p][:-1]:
            inside = piece.split(".")
            if len(inside) > 1 and found[1 - len(inside) :] == inside[:-1]:  # body, then body.1: its child
                found += inside[-1:]
            else:
                found += inside
        if found:
            return path_parts(".".join(found))
    return path_parts(name) or path_parts(node.op_type.lower())


class Paths:
    """Gives every module and parameter a path that nothing else has; nothing lies inside a module that computes."""

    def __init__(self) -> None:
        self._leaves: set[str] = set()
        self._inner: set[str] = set()

    def reserve(self, paths: Iterable[str]) -> None:
        """Keep paths free."""
        self._leaves.update(paths)

    def take(self, parts: list[str], *, holds: bool = False) -> str:
        """Return the path for ``parts``: parts behind one that computes are joined to it with ``_``.

        ``holds`` asks for a module that others may lie in.
        """
        base, leaves = "", self._leaves
        for part in parts:
            base = f"{base}_{part}" if base in leaves else f"{base}.{part}" if base else part
        base = base or "module"
        path, i = base, 0
        while path in self._leaves or path in self._inner or taken_by_torch(path):
            i += 1
            path = f"{base}_{i}"
        (self._inner if holds else self._leaves).add(path)
        pieces = path.split(".")
        self._inner.update(".".join(pieces[:n]) for n in range(1, len(pieces)))
        return path


def taken_by_torch(path: str) -> bool:
    """Whether a path's first part is something that every torch module has (``forward``, ``train`` …)."""
    return not _attributes_of_modules().isdisjoint(path.split("."))


@functools.cache
def _attributes_of_modules() -> frozenset[str]:
    from torch import fx, nn

    return frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))
