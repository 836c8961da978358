"""Training from a model to the same model with other weights: phases, the frozen trunk, going on after a stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import UsageError
from netferry.runtime.training.batches import Order
from netferry.runtime.training.examples import Examples
from netferry.runtime.training.fit import Listener, Stretch, fit
from netferry.runtime.training.network import State, learner
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.part import Engines, part_of
from netferry.runtime.training.rates import head_weights, phases_of, rates_of, rectified, smoothing_of
from netferry.runtime.training.start import begin
from netferry.runtime.training.state import RunFolder, Standing
from netferry.runtime.training.trainer import device_of
from netferry.runtime.training.values import destandardize, standardize
from netferry.schemas.head import ending_of
from netferry.schemas.ir import ir
from netferry.schemas.model import Model


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
    """best, loss or last"""
    trunk: str
    """how the frozen part ran: none, plain, no-grad, cached"""
    device: str
    factors: dict[str, float]
    changed: list[str] = field(default_factory=list)
    """initializers that training changed"""
    resumed_at: int | None = None
    label_smoothing: float = 0.0


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
    options = options.with_(label_smoothing=smoothing_of(model, options, task))
    objective = Objective(task, size, options, training.targets)
    _check_targets(training.targets, task, size)
    center = standardize(model, objective, training.targets, fresh_head) if task == "values" else None
    factors, rate = rates_of(model, options)
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
    phases = phases_of(model, options, order.per_epoch, total, fresh_head)
    for number, phase in enumerate(phases):
        if standing.stopped or (standing.iteration >= phase.stop and number < len(phases) - 1):
            continue
        part = part_of(model, phase.frozen, objective, training, validation, options, engines, factors, folder)
        how, trained = part.how, part
        if state is not None:
            part.learner.load(state)
        elif fresh_head:
            begin(part.learner, head_weights(model), part.plain, order.rows(0).tolist(), rectified=rectified(model))
        if standing.iteration < phase.stop and not standing.stopped:
            going_on = found is not None and found["phase"] == number and found["standing"]["iteration"] > 0
            stretch = Stretch(part.learner, part.module, part.training, part.validation, objective, order, phase.stop,
                              total, number, rate, phase.start)  # fmt: skip
            optimizer_state = found["optimizer"] if found is not None and going_on else None
            best = fit(stretch, options, run, standing, best=best, optimizer_state=optimizer_state,
                       listener=listener, tick=tick)  # fmt: skip
            state, found = part.learner.state(), None
    if trained is None:  # stopped early in an earlier phase, and asked to go on
        trained = part_of(model, phases[-1].frozen, objective, training, validation, options, engines, factors, folder)
    kept = "last" if best is None else options.keep
    changed = _take_back(model, trained.rest, state if best is None else best, engines, factors)
    if center is not None:
        destandardize(model, objective)
    history: list[dict[str, Any]] = [dict(r) for r in run.rows]
    device = "cuda" if device_of(options.device) == "gpu" else "cpu"
    return Outcome(history, standing, total, order.per_epoch, rate, kept, how, device, factors, changed, resumed_at,
                   options.label_smoothing or 0.0)  # fmt: skip


def _take_back(
    model: Model, rest: Model, state: State | None, engines: Engines, factors: dict[str, float]
) -> list[str]:
    """Write trained weights into the model: a module of the model's own weights, then the state, then back."""
    if state is None:
        return []
    fresh = learner(rest, engines.to_torch, factors)
    fresh.load(state)
    return engines.update_from(model, fresh.network)


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
