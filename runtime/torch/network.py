"""The module that a graph becomes: an fx.GraphModule that keeps constants out of its state, copies included."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import torch
from torch import fx, nn

_PLAIN = (bool, int, float, complex, type(None), fx.Node, torch.dtype, torch.device, torch.layout, torch.memory_format)


class _Written:
    """What ``recompile`` writes, written when it is first asked for.

    To write a network's code and to have Python compile it takes a twelfth of a conversion, and nobody needs it who
    writes the weights, edits the graph or shows the modules. What is there once it is written comes before this.
    """

    def __set_name__(self, owner: type[Network], name: str) -> None:
        self.name = name

    def __get__(self, module: Network | None, kind: type[Network]) -> Any:
        one = module if module is not None or kind._own is None else kind._own()
        if one is None:
            return self
        one.recompile()
        if module is None:
            return vars(kind).get(self.name, self)
        if self.name not in vars(kind) and self.name not in vars(one):
            raise AttributeError(self.name)  # an empty graph has no code
        return getattr(one, self.name)


class Network(fx.GraphModule):
    """An ``fx.GraphModule`` whose constants are not part of the ``state_dict``: torch forgets that when it copies."""

    _own: ClassVar[weakref.ref[Network] | None] = None
    """of the class that fx makes for each network: the network"""
    forward: Any = _Written()
    _code = _Written()
    _lineno_map = _Written()
    _prologue_start = _Written()

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str = "Network") -> None:
        empty = fx.Graph()
        super().__init__(nn.Module(), empty, class_name)
        # what the root holds becomes ours as it is: fx would go down the path of every target, and make holders anew
        self._modules.update(root._modules)
        self._parameters.update(root._parameters)
        self._buffers.update(root._buffers)
        self._non_persistent_buffers_set |= root._non_persistent_buffers_set
        self._graph = graph
        type(self)._own = weakref.ref(self)
        # a graph and its module hold each other, so that the weights of a module that nobody has any more would stay
        # in memory until Python looks for circles
        empty.owning_module = None
        graph.owning_module = weakref.proxy(self)  # pyright: ignore[reportAttributeAccessIssue]

    def recompile(self) -> Any:
        """Write ``forward`` anew; the empty graph that a network starts from needs none."""
        return super().recompile() if len(self._graph.nodes) else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        copied: Any = super().__deepcopy__(memo)
        keep_out_of_state(self, copied)
        return copied


def is_plain(value: Any) -> bool:
    """Whether an argument is a number, a text, a node, or tuples, lists and dicts of such.

    fx writes the code of ``forward`` from what ``repr`` says of arguments, and runs it: of any other object that may be
    whatever stands in the file.
    """
    if isinstance(value, (tuple, list)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(held) for key, held in value.items())
    if isinstance(value, slice):
        return is_plain((value.start, value.stop, value.step))
    return type(value) is str or isinstance(value, _PLAIN)


def keep_out_of_state(source: nn.Module, target: nn.Module) -> None:
    """Mark the buffers of ``target`` that are not saved in ``source``."""
    found = dict(target.named_modules())
    for path, module in source.named_modules():
        mine = found.get(path)
        if mine is not None:
            mine._non_persistent_buffers_set |= module._non_persistent_buffers_set & set(mine._buffers)
