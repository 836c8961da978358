"""The part of a network that learns, the frozen rest in front of it, and how that rest runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from netferry.errors import UsageError
from netferry.runtime.training.examples import Examples
from netferry.runtime.training.features import Export, Featurizer
from netferry.runtime.training.network import Learner, ToTorch, frozen_trunk, learner
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.trainer import device_of
from netferry.runtime.training.trunk import Halves, split
from netferry.runtime.training.validation import as_rows
from netferry.schemas.head import ending_of
from netferry.schemas.ir import ir
from netferry.schemas.model import Model


@dataclass
class Engines:
    """What other rooms do for training; netferry.api fills it in."""

    to_torch: ToTorch
    update_from: Callable[[Model, nn.Module], list[str]]
    export: Export


@dataclass
class Part:
    """What learns: a model and its module; what the examples go through first; how that runs."""

    rest: Model
    learner: Learner
    module: nn.Module | None
    training: Examples
    validation: Examples | None
    how: str
    plain: Examples
    """the training examples as the learner's module takes them (``training`` may still go through ``module``)"""


def part_of(
    model: Model,
    frozen: set[str],
    objective: Objective,
    training: Examples,
    validation: Examples | None,
    options: TrainOptions,
    engines: Engines,
    factors: dict[str, float],
    folder: Path | None,
) -> Part:
    """Split what is frozen from what learns, and choose how the frozen part runs."""
    source = model.copy()
    source.frozen = set(frozen)
    logits = ending_of(source).logits
    halves: Halves = split(source, logits)
    if options.trunk == "plain" or halves.trunk is None:
        whole = halves.rest if halves.trunk is None else _whole(source, logits)
        made = learner(whole, engines.to_torch, factors)
        _probe(made, objective, training)
        return Part(whole, made, None, training, validation, "none" if halves.trunk is None else "plain", training)
    made = learner(halves.rest, engines.to_torch, factors)
    augmented = training.augmented
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
        return Part(whole, made, None, training, validation, "plain", training)
    if features is not None:
        _probe(made, objective, features)
        return Part(halves.rest, made, None, features, seen, "cached", features)
    behind = featurize.behind(training)
    _probe(made, objective, seen or behind)
    return Part(halves.rest, made, module, training if inside else behind, seen, "no-grad", behind)


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
