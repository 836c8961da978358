"""Training from a model to the same model with other weights: phases, the frozen trunk, going on after a stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from netferry.errors import UsageError
from netferry.runtime.training.batches import Order
from netferry.runtime.training.examples import Examples, PictureExamples
from netferry.runtime.training.features import Export, Featurizer
from netferry.runtime.training.fit import Listener, Stretch, as_rows, device_of, fit
from netferry.runtime.training.network import Learner, State, ToTorch, frozen_trunk, learner
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import HEAD_RATE, WHOLE_RATE, TrainOptions
from netferry.runtime.training.state import RunFolder, Standing
from netferry.runtime.training.trunk import Halves, split
from netferry.schemas.head import CLASSIFIERS, class_axis, ending_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of
from netferry.schemas.learning import blocks
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of, array_tensor

_LINEAR = {"GlobalAveragePool", "AveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity",
           "Transpose", "Dropout"}  # fmt: skip
HEAD_FACTOR = 10.0
"""of the head's learning rate where more than the head learns and nobody chose rates"""


@dataclass
class Engines:
    """What other rooms do for training; netferry.api fills it in."""

    to_torch: ToTorch
    update_from: Callable[[Model, nn.Module], list[str]]
    export: Export


@dataclass
class Outcome:
    """What training did."""

    history: list[dict[str, Any]]
    standing: Standing
    total: int
    """iterations that the options ask for"""
    per_epoch: int
    rate: float
    kept: str
    """best or last"""
    trunk: str
    """how the frozen part ran: none, plain, no-grad, cached"""
    device: str
    factors: dict[str, float]
    changed: list[str] = field(default_factory=list)
    """initializers that training changed"""
    resumed_at: int | None = None


@dataclass
class _Phase:
    frozen: set[str]
    stop: int


def train(
    model: Model,
    training: Examples,
    validation: Examples | None,
    options: TrainOptions,
    engines: Engines,
    *,
    task: str = "classes",
    folder: Path | None = None,
    resume: bool = False,
    fresh_head: bool = True,
    listener: Listener | None = None,
    tick: Callable[[int], None] | None = None,
) -> Outcome:
    """Train a model in place.

    Args:
        model: the network; what is frozen on it stays as it is, to the bit.
        training, validation: examples with targets.
        options: how.
        engines: how models become torch modules and files.
        task: classes, labels or values.
        folder: where history and checkpoint go; None keeps the history in memory.
        resume: go on from the folder's checkpoint, where there is one.
        fresh_head: the head was drawn at random (for values: it is to predict values with mean 0 and spread 1).
        listener, tick: called after each validation, after each iteration.

    Raises:
        UsageError: nothing learns; the targets do not fit the network; options that contradict each other.
        CheckFailed: the loss is not finite any more.
        DeviceError: the device cannot be used.
        MalformedFile: the checkpoint is damaged.
    """
    ending = ending_of(model)
    size = ending.size or _last_size(ending.output)
    order = Order(len(training), options.batch_size * options.accumulate, options.seed)
    total = order.per_epoch * options.epochs
    objective = Objective(task, size, options, training.targets)
    _check_targets(training.targets, task, size)
    center = _standardize(model, objective, training.targets, fresh_head) if task == "values" else None
    factors, rate = _rates(model, options)
    run, first = RunFolder(folder), int(os.environ.get("RANK", "0")) == 0
    found = run.load() if resume else None
    standing, best, state = Standing(), None, None
    if found is not None:
        standing, best, state = Standing(**found["standing"]), found["best"], found["state"]
        if first:
            run.resume(standing.iteration)
    elif first:
        run.start()
    resumed_at = standing.iteration if found is not None else None
    how, trained = "none", None
    phases = _phases(model, options, order.per_epoch, total)
    for number, phase in enumerate(phases):
        if standing.stopped or (standing.iteration >= phase.stop and number < len(phases) - 1):
            continue
        part = _part(model, phase.frozen, objective, training, validation, options, engines, factors, folder)
        how, trained = part.how, part
        if state is not None:
            part.learner.load(state)
        if standing.iteration < phase.stop and not standing.stopped:
            going_on = found is not None and found["phase"] == number and found["standing"]["iteration"] > 0
            stretch = Stretch(part.learner, part.module, part.training, part.validation, objective, order, phase.stop,
                              total, number, rate)  # fmt: skip
            optimizer_state = found["optimizer"] if found is not None and going_on else None
            best = fit(stretch, options, run, standing, best=best, optimizer_state=optimizer_state,
                       listener=listener, tick=tick)  # fmt: skip
            state, found = part.learner.state(), None
    if trained is None:  # stopped early in an earlier phase, and asked to go on
        trained = _part(model, phases[-1].frozen, objective, training, validation, options, engines, factors, folder)
    kept = "best" if options.keep == "best" and best is not None else "last"
    changed = _take_back(model, trained.rest, best if kept == "best" else state, engines, factors)
    if center is not None:
        _destandardize(model, objective)
    history: list[dict[str, Any]] = [dict(r) for r in run.rows]
    device = "cuda" if device_of(options.device) == "gpu" else "cpu"
    return Outcome(history, standing, total, order.per_epoch, rate, kept, how, device, factors, changed, resumed_at)


def _take_back(
    model: Model, rest: Model, state: State | None, engines: Engines, factors: dict[str, float]
) -> list[str]:
    """Write trained weights into the model: a module of the model's own weights, then the state, then back."""
    if state is None:
        return []
    fresh = learner(rest, engines.to_torch, factors)
    fresh.load(state)
    return engines.update_from(model, fresh.network)


# the part of the network that learns -----------------------------------------------------------------------------


@dataclass
class _Part:
    rest: Model
    learner: Learner
    module: nn.Module | None
    training: Examples
    validation: Examples | None
    how: str


def _part(
    model: Model,
    frozen: set[str],
    objective: Objective,
    training: Examples,
    validation: Examples | None,
    options: TrainOptions,
    engines: Engines,
    factors: dict[str, float],
    folder: Path | None,
) -> _Part:
    """Split what is frozen from what learns, and choose how the frozen part runs."""
    source = model.copy()
    source.frozen = set(frozen)
    logits = ending_of(source).logits
    halves: Halves = split(source, logits)
    if options.trunk == "plain" or halves.trunk is None:
        whole = halves.rest if halves.trunk is None else _whole(source, logits)
        made = learner(whole, engines.to_torch, factors)
        _probe(made, objective, training)
        return _Part(whole, made, None, training, validation, "none" if halves.trunk is None else "plain")
    made = learner(halves.rest, engines.to_torch, factors)
    augmented = isinstance(training, PictureExamples) and training.augment is not None
    if options.trunk == "cached" and (augmented or options.mixup):
        raise UsageError(
            "trunk=cached computes features once, so nothing can be augmented or mixed", hint="--augment none"
        )
    gpu = device_of(options.device) == "gpu"
    # mixing examples comes in front of the trunk, so the trunk then runs inside the loop
    inside = gpu or options.mixup > 0
    module = frozen_trunk(halves.trunk, engines.to_torch) if inside else None
    featurize = Featurizer(halves.trunk, engines.export, module=module, device="cuda" if gpu else None,
                           batch=options.batch_size if gpu else 16, folder=folder)  # fmt: skip
    seen = None if validation is None else featurize(validation)
    once = not augmented and not options.mixup and options.trunk != "no-grad"
    features = featurize(training) if once else None
    if validation is not None and seen is None:  # too large to be kept
        whole = _whole(source, logits)
        made = learner(whole, engines.to_torch, factors)
        _probe(made, objective, training)
        return _Part(whole, made, None, training, validation, "plain")
    if features is not None:
        _probe(made, objective, features)
        return _Part(halves.rest, made, None, features, seen, "cached")
    behind = featurize.behind(training)
    _probe(made, objective, seen or behind)
    return _Part(halves.rest, made, module, training if inside else behind, seen, "no-grad")


def _whole(model: Model, logits: ir.Value) -> Model:
    """The network that ends in its logits."""
    made = model.copy()
    value = next(v for n in made.graph for v in n.outputs if v.name == logits.name)
    made.graph.outputs.clear()
    made.graph.outputs.append(value)
    return made


def _probe(made: Learner, objective: Objective, examples: Examples | None) -> None:
    """Find out by a run whether the network gives probabilities all the same (a softmax made of other operators)."""
    if objective.task != "classes" or examples is None or objective.size < 2:
        return
    rows = list(range(min(4, len(examples))))
    made.network.eval()
    with torch.no_grad():
        scores = as_rows(made.network(*(torch.from_numpy(a) for a in examples.inputs(rows))))
    made.network.train()
    if scores.shape[1] != objective.size:
        raise UsageError(f"the network gives {scores.shape[1]} scores for {objective.size} classes")
    whole = (scores.sum(1) - 1).abs().max() < 1e-3
    objective.probabilities = bool(whole and scores.min() >= 0 and scores.max() <= 1)


def _check_targets(targets: np.ndarray, task: str, size: int) -> None:
    if task == "classes":
        if targets.ndim != 1 or (len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < size):
            raise UsageError(f"the targets are no numbers of {size} classes")
    elif targets.shape[1:] != (size,):
        raise UsageError(f"the targets are of shape {list(targets.shape)}, the network gives {size} {task}")


def _last_size(output: ir.Value) -> int:
    dims = [] if output.shape is None else [d for d in output.shape[1:] if isinstance(d, int)]
    if len(dims) != len(output.shape or ()) - 1:
        raise UsageError(f"the number of scores of output {output.name!r} is not fixed ({output.shape})")
    return int(np.prod(dims))


# rates and phases ------------------------------------------------------------------------------------------------


def _rates(model: Model, options: TrainOptions) -> tuple[dict[str, float], float]:
    """Factor of every initializer that learns, and the rate that factors multiply."""
    rows = [r for r in model.layers if any(v.name not in model.frozen for v in r.learnables)]
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


def _head_layers(model: Model) -> set[str]:
    """Layers of the head: the classifier and what follows it; of a new one all that are called so."""
    ending = ending_of(model)
    nodes = [*([] if ending.classifier is None else [ending.classifier]), *ending.behind]
    names = {layer_of(n)[0] for n in nodes} or {model.head().layer}
    return names | ({r.name for r in model.layers if r.name.startswith("head/")} if "head" in names else set())


def _groups(model: Model, head: set[str]) -> list[list[str]]:
    """Blocks that learn, in graph order; the head is the last one."""
    learns = {r.name for r in model.layers if any(v.name not in model.frozen for v in r.learnables)}
    groups = [[n for n in names if n not in head and n in learns] for names in blocks(model)]
    return [*(g for g in groups if g), [n for n in head if n in learns]]


def _phases(model: Model, options: TrainOptions, per_epoch: int, total: int) -> list[_Phase]:
    if options.unfreeze_every is None:
        return [_Phase(set(model.frozen), total)]
    groups = _groups(model, _head_layers(model))
    rows = {r.name: r for r in model.layers}
    phases: list[_Phase] = []
    for number in range(len(groups)):
        waiting = {n for names in groups[: len(groups) - 1 - number] for n in names}
        frozen = {v.name or "" for n in waiting for v in [*rows[n].learnables, *rows[n].state]}
        stop = min(total, options.unfreeze_every * per_epoch * (number + 1))
        phases.append(_Phase(set(model.frozen) | frozen, stop))
        if stop == total:
            return phases
    phases[-1].stop = total
    return phases


# values with their own mean and spread ---------------------------------------------------------------------------


def _standardize(model: Model, objective: Objective, targets: np.ndarray, fresh: bool) -> bool | None:
    """Learn values as (value - mean) / spread, where the head can take mean and spread over afterwards."""
    ending = ending_of(model)
    node = ending.classifier
    if node is None or any(n.op_type not in _LINEAR for n in ending.behind) or len(node.inputs) < 3:
        return None
    objective.center = targets.mean(0).astype(np.float32)
    spread = targets.std(0).astype(np.float32)
    objective.spread = np.where(spread > 0, spread, 1).astype(np.float32)
    if not fresh:
        _affine(model, 1 / objective.spread, -objective.center / objective.spread)
    return True


def _destandardize(model: Model, objective: Objective) -> None:
    _affine(model, objective.spread, objective.center)


def _affine(model: Model, factor: np.ndarray, shift: np.ndarray) -> None:
    """Let the classifier give ``factor * result + shift``."""
    node = ending_of(model).classifier
    weight, bias = (None, None) if node is None else (node.inputs[CLASSIFIERS[node.op_type]], node.inputs[2])
    if node is None or weight is None or bias is None:
        raise AssertionError("checked before")
    for value, axis, plus in ((weight, class_axis(node), None), (bias, -1, shift)):
        old = array_of(value)
        if old is None:
            raise AssertionError("checked before")
        shape = [1] * old.ndim
        shape[axis] = len(factor)
        new = old * factor.reshape(shape) + (0 if plus is None else plus.reshape(shape))
        value.const_value = array_tensor(new.astype(old.dtype), value.name)
