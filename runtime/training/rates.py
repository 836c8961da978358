"""Which parameters learn how fast, and from when on: factors of the rate, blocks that join one after another."""

from __future__ import annotations

from dataclasses import dataclass

from netferry.errors import UsageError
from netferry.runtime.training.options import HEAD_RATE, WHOLE_RATE, WHOLE_SMOOTHING, TrainOptions
from netferry.schemas.head import ending_of
from netferry.schemas.layers import LayerRow, layer_of
from netferry.schemas.learning import blocks
from netferry.schemas.model import Model

HEAD_FACTOR = 10.0
"""of the head's learning rate where more than the head learns and nobody chose rates"""


@dataclass
class Phase:
    """A stretch of iterations in which the same parameters learn: what is frozen, and where it ends."""

    frozen: set[str]
    stop: int
    start: int = 0


def rates_of(model: Model, options: TrainOptions) -> tuple[dict[str, float], float]:
    """Factor of every initializer that learns, and the rate that factors multiply.

    Raises:
        UsageError: nothing learns.
    """
    rows = _learning(model)
    if not rows:
        raise UsageError("nothing learns: every layer is frozen", hint="model.unfreeze(), or --train head")
    head = _head_layers(model)
    only_head = all(r.name in head for r in rows)
    factors: dict[str, float] = {}
    for row in rows:
        for value in row.learnables:
            name = value.name or ""
            chosen = model.lr_factors.get(name)
            if chosen is None:
                boosted = options.learning_rate is None and not only_head and row.name in head
                chosen = HEAD_FACTOR if boosted else 1.0
            if name not in model.frozen:
                factors[name] = chosen
    if options.layer_decay < 1:
        groups = _groups(model, head)
        for depth, names in enumerate(reversed(groups)):
            for row in rows:
                if row.name in names:
                    for value in row.learnables:
                        if value.name in factors:
                            factors[value.name or ""] *= options.layer_decay**depth
    return factors, options.learning_rate or (HEAD_RATE if only_head else WHOLE_RATE)


def smoothing_of(model: Model, options: TrainOptions, task: str) -> float:
    """The label smoothing: the one that was chosen, else one for classes where more than the head learns."""
    if options.label_smoothing is not None:
        return options.label_smoothing
    head = _head_layers(model)
    deeper = any(row.name not in head for row in _learning(model))
    return WHOLE_SMOOTHING if task == "classes" and deeper else 0.0


def _learning(model: Model) -> list[LayerRow]:
    """Layers with a parameter that is not frozen."""
    return [r for r in model.layers if any(v.name not in model.frozen for v in r.learnables)]


def _head_layers(model: Model) -> set[str]:
    """Layers of the head: the classifier and what follows it; of a new one all that are called so."""
    ending = ending_of(model)
    nodes = [*([] if ending.classifier is None else [ending.classifier]), *ending.behind]
    names = {layer_of(n)[0] for n in nodes} or {model.head().layer}
    return names | ({r.name for r in model.layers if r.name.startswith("head/")} if "head" in names else set())


def head_weights(model: Model) -> list[str]:
    """Initializers of the head, in graph order."""
    head = _head_layers(model)
    return [v.name or "" for row in model.layers if row.name in head for v in row.learnables]


def rectified(model: Model) -> str | None:
    """The classifier's bias, where a rectifier follows the classifier."""
    ending = ending_of(model)
    node = ending.classifier
    if node is None or len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    follows = any(use.node.op_type == "Relu" for use in node.outputs[0].uses())
    return node.inputs[2].name if follows else None


def _groups(model: Model, head: set[str]) -> list[list[str]]:
    """Blocks that learn, in graph order; the head is the last one."""
    learns = {row.name for row in _learning(model)}
    groups = [[n for n in names if n not in head and n in learns] for names in blocks(model)]
    return [*(g for g in groups if g), [n for n in head if n in learns]]


def phases_of(model: Model, options: TrainOptions, per_epoch: int, total: int, fresh_head: bool = False) -> list[Phase]:
    """The phases of a training of ``total`` iterations.

    One where the head alone learns. Where more learns, a new head learns alone at first, so that its noise does not
    spoil what the network knows (Kumar et al. 2022), then everything together; or, with ``unfreeze_every``, one block
    after another joins.
    """
    if options.unfreeze_every is None:
        return _head_first(model, options, per_epoch, total, fresh_head)
    groups = _groups(model, _head_layers(model))
    rows = {r.name: r for r in model.layers}
    phases: list[Phase] = []
    for number in range(len(groups)):
        waiting = {n for names in groups[: len(groups) - 1 - number] for n in names}
        frozen = {v.name or "" for n in waiting for v in [*rows[n].learnables, *rows[n].state]}
        stop = min(total, options.unfreeze_every * per_epoch * (number + 1))
        phases.append(Phase(set(model.frozen) | frozen, stop, phases[-1].stop if phases else 0))
        if stop == total:
            return phases
    phases[-1].stop = total
    return phases


def _head_first(model: Model, options: TrainOptions, per_epoch: int, total: int, fresh_head: bool) -> list[Phase]:
    head = _head_layers(model)
    rest = {v.name or "" for r in model.layers if r.name not in head for v in [*r.learnables, *r.state]}
    epochs = options.head_first
    if epochs is None:
        epochs = round(options.epochs / 3) if fresh_head else 0
    stop = min(epochs * per_epoch, total)
    learns = {v.name or "" for r in model.layers for v in r.learnables} - model.frozen
    if not stop or not learns - rest or not learns & rest:
        return [Phase(set(model.frozen), total)]
    first = Phase(model.frozen | rest, stop)
    return [first, Phase(set(model.frozen), total, stop)] if stop < total else [first]
