"""Recurrent layers that exporters of torch wrote one after the other, as the one module that they were.

ONNX has no node for several layers: ``nn.LSTM(…, num_layers=3)`` becomes three nodes, whose last states are joined.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn

from netferry.runtime.torch import glue
from netferry.runtime.torch.ops.shape import Concat, Slice, Transpose
from netferry.runtime.torch.plans import recurrent_module
from netferry.runtime.torch.store import Store

_TURN = {"perm": [1, 0, 2]}
_SAME = ("hidden_size", "bidirectional", "bias", "batch_first")


def stack_layers(graph: fx.Graph, root: nn.Module, store: Store) -> None:
    """Put recurrent modules of one layer that read each other's outputs together; parameters stay the same ones."""
    calls = [node for node in graph.nodes if node.op == "call_module" and _module(root, node) is not None]
    targets = [node.target for node in calls]
    pending = [node for node in calls if targets.count(node.target) == 1]
    if len(pending) < 2:
        return
    order = {node: i for i, node in enumerate(graph.nodes)}
    while pending:
        chain = [pending.pop(0)]
        while (following := _following(chain, root, pending, order)) is not None:
            pending.remove(following)
            chain.append(following)
        if len(chain) > 1:
            _join(graph, root, store, chain)


def _module(root: nn.Module, node: fx.Node) -> nn.RNNBase | None:
    found = root.get_submodule(str(node.target))
    if not isinstance(found, nn.RNNBase) or found._buffers or any(p is None for p in found._parameters.values()):
        return None
    return found


def _items(node: fx.Node) -> dict[int, fx.Node] | None:
    """The parts of a node's result that are read, by number; None where something else reads it."""
    found: dict[int, fx.Node] = {}
    for user in node.users:
        if user.target is not operator.getitem or user.args[1] in found or not isinstance(user.args[1], int):
            return None
        found[user.args[1]] = user
    return found


def _following(
    chain: list[fx.Node], root: nn.Module, pending: list[fx.Node], order: dict[fx.Node, int]
) -> fx.Node | None:
    """The call that reads nothing but the last call's sequence, and nothing else reads that."""
    node = chain[-1]
    sequence = (_items(node) or {}).get(0)
    if sequence is None or len(sequence.users) != 1:
        return None
    (user,) = sequence.users
    if user not in pending or user.args[0] is not sequence or _items(user) is None:
        return None
    if not _alike(node, user, root) or any(order[n] < order[user] for one in chain for n in _readers(one, root)):
        return None
    if user.meta.get("netferry.layer") != node.meta.get("netferry.layer"):
        return None
    a, b = _module(root, node), _module(root, user)
    if a is None or b is None or type(a) is not type(b) or any(getattr(a, n) != getattr(b, n) for n in _SAME):
        return None
    return user if getattr(a, "nonlinearity", None) == getattr(b, "nonlinearity", None) else None


def _alike(a: fx.Node, b: fx.Node, root: nn.Module) -> bool:
    """Whether two calls have first states of one form, or none, and their last states can be told apart."""
    if any(_states(node, root) is None for node in (a, b)) or len(a.args) != len(b.args):
        return False
    if len(a.args) == 1:
        return True
    p, q = a.args[1], b.args[1]
    if not isinstance(p, fx.Node) or not isinstance(q, fx.Node):
        return False
    if p.target is not glue.recurrent_state or q.target is not glue.recurrent_state or p.kwargs != q.kwargs:
        return False
    return not p.kwargs["batch_first"] and [x is None for x in p.args] == [x is None for x in q.args]


def _states(node: fx.Node, root: nn.Module) -> dict[int, fx.Node] | None:
    """The last states that are read: hidden state and, of an LSTM, cell state; None where it cannot be told."""
    last = (_items(node) or {}).get(1)
    if last is None:
        return {}
    return _items(last) if isinstance(_module(root, node), nn.LSTM) else {0: last}


def _readers(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    return [user for state in (_states(node, root) or {}).values() for user in state.users]


def _join(graph: fx.Graph, root: nn.Module, store: Store, chain: list[fx.Node]) -> None:
    modules = [m for node in chain if (m := _module(root, node)) is not None]
    first = modules[0]
    directions, memory = 2 if first.bidirectional else 1, isinstance(first, nn.LSTM)
    states = [_states(node, root) or {} for node in chain]
    source, turned = chain[0].args[0], _turned(chain) if not first.batch_first and len(chain[0].args) == 1 else []
    path = _put(root, store, chain, modules, batch_first=first.batch_first or bool(turned))
    with graph.inserting_before(chain[-1]):
        args: tuple[Any, ...] = (source.args[0] if turned and isinstance(source, fx.Node) else source,)
        if len(chain[0].args) > 1:
            held = [node.args[1] for node in chain if isinstance(node.args[1], fx.Node)]
            rows = [tuple(state.args[i] for state in held) for i in range(2)]
            joined = [None if r[0] is None else graph.call_function(Concat, r, {"axis": 0}) for r in rows]
            args = (*args, graph.call_function(glue.recurrent_state, tuple(joined), held[0].kwargs))
        made = graph.call_module(path, args)
        made.meta.update(chain[-1].meta)
    with graph.inserting_after(made):
        last = graph.call_function(operator.getitem, (made, 1))
    for i in range(2 if memory else 1):
        _give_states(graph, [s.get(i) for s in states], last, i if memory else None, directions)
    sequence = (_items(chain[-1]) or {}).get(0)
    if sequence is not None:
        sequence.args = (made, 0)
        for turn in turned:
            turn.replace_all_uses_with(sequence)
            graph.erase_node(turn)
    for node in reversed(chain):
        state = node.args[1] if len(node.args) > 1 else None
        for user in list(node.users):
            for inner in list(user.users):
                graph.erase_node(inner)
            graph.erase_node(user)
        graph.erase_node(node)
        if isinstance(state, fx.Node) and not state.users:
            graph.erase_node(state)
    if not last.users:
        graph.erase_node(last)
    if turned and isinstance(source, fx.Node) and not source.users:
        graph.erase_node(source)


def _turned(chain: list[fx.Node]) -> list[fx.Node]:
    """The swaps of time and batch that alone read the last layer, where one stands before the first."""
    before = chain[0].args[0]
    sequence = (_items(chain[-1]) or {}).get(0)
    if not isinstance(before, fx.Node) or before.target is not Transpose or before.kwargs != _TURN or sequence is None:
        return []
    behind = list(sequence.users)
    return behind if all(n.target is Transpose and n.kwargs == _TURN for n in behind) else []


def _give_states(graph: fx.Graph, held: list[fx.Node | None], last: fx.Node, i: int | None, directions: int) -> None:
    """Give who reads a last state of one layer its rows of the state of all; who joins them gets all."""
    if not any(held):
        return
    whole = last
    if i is not None:
        with graph.inserting_after(last):
            whole = graph.call_function(operator.getitem, (last, i))
    common = None if None in held else _only_user(held)
    if common is not None:
        common.replace_all_uses_with(whole)
        graph.erase_node(common)
        return
    for k, node in enumerate(held):
        if node is not None:
            with graph.inserting_after(whole):
                rows = graph.call_function(Slice, (whole, [k * directions], [(k + 1) * directions], [0]))
            rows.meta.update(node.meta)
            node.replace_all_uses_with(rows)


def _only_user(held: list[Any]) -> fx.Node | None:
    """The Concat along the first axis that alone reads the states, of all layers in order."""
    users = {user for node in held for user in node.users}
    if len(users) != 1:
        return None
    (user,) = users
    return user if user.target is Concat and list(user.args) == held and user.kwargs == {"axis": 0} else None


def _put(root: nn.Module, store: Store, chain: list[fx.Node], modules: list[nn.RNNBase], *, batch_first: bool) -> str:
    """Put the module of all layers where the first lay, or in the place of what held nothing but these."""
    first = modules[0]
    settings: dict[str, Any] = {name: getattr(first, name) for name in ("input_size", *_SAME)}
    if isinstance(first, nn.RNN):
        settings["nonlinearity"] = first.nonlinearity
    made = recurrent_module(type(first), {**settings, "batch_first": batch_first, "num_layers": len(modules)})
    targets = [str(node.target) for node in chain]
    path = targets[0]
    above = path.rpartition(".")[0]
    inside = root.get_submodule(above) if above else root
    alone = above and type(inside) is nn.Module and not inside._parameters and not inside._buffers
    if alone and {f"{above}.{name}" for name in inside._modules} == set(targets):
        path = above
    moved: dict[str, str] = {}
    for k, (module, target) in enumerate(zip(modules, targets, strict=True)):
        for name, parameter in module._parameters.items():
            own = name.replace("_l0", f"_l{k}", 1)
            setattr(made, own, parameter)
            moved[f"{target}.{name}"] = f"{path}.{own}"
        holder, _, name = target.rpartition(".")
        del (root.get_submodule(holder) if holder else root)._modules[name]
    holder, _, name = path.rpartition(".")
    (root.get_submodule(holder) if holder else root)._modules[name] = made
    for name, place in store.places.items():
        if any(old in moved for old in place.paths):
            store.places[name] = place._replace(paths=tuple(moved.get(old, old) for old in place.paths))
    return path
