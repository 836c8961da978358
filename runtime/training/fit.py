"""The loop: one stretch of iterations by Lightning, which brings devices, precision and distribution.

Every random choice is a function of (seed, iteration): the order of the examples, their augmentation, mixup, and the
seed that dropouts start from. So a run that goes on from a checkpoint does what it would have done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from netferry.errors import CheckFailed
from netferry.runtime.training.batches import Batches, Order, loader
from netferry.runtime.training.examples import Examples
from netferry.runtime.training.network import Learner, State
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.state import RunFolder, Standing
from netferry.runtime.training.trainer import quiet, readers, trainer_of
from netferry.runtime.training.validation import as_rows, validate

Listener = Callable[[RunFolder, Standing], None]
"""called after each validation, by the first process"""


@dataclass
class Stretch:
    """What one call of :func:`fit` trains: iterations up to ``stop`` of ``total``."""

    learner: Learner
    trunk: nn.Module | None
    """frozen modules that the examples go through first"""
    training: Examples
    validation: Examples | None
    """seen by the network alone: they went through the trunk already"""
    objective: Objective
    order: Order
    stop: int
    total: int
    phase: int = 0
    rate: float = 1e-3
    joined: int = 0
    """the iteration with which the phase begins"""


class Fit(pl.LightningModule):
    """Lightning's view of a stretch. Optimization is by hand: an iteration is known by its number."""

    def __init__(
        self,
        stretch: Stretch,
        options: TrainOptions,
        folder: RunFolder,
        standing: Standing,
        best: State | None,
        listener: Listener | None,
        tick: Callable[[int], None] | None,
        optimizer_state: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.stretch, self.options, self.folder, self.standing = stretch, options, folder, standing
        self.best, self.listener, self.tick, self._optimizer_state = best, listener, tick, optimizer_state
        self.network = stretch.learner.network
        self._run: Any = torch.compile(self.network) if options.compile else self.network
        self._trunk = [] if stretch.trunk is None else [stretch.trunk]  # a list: its parameters are nobody's business
        self._sums: list[tuple[int, float, Tensor]] = []
        self._batch_sums: list[Tensor] = []
        self._started = time.monotonic() - standing.seconds
        self._world_sum: Callable[[Tensor], Tensor] = lambda t: t

    # Lightning's hooks -------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, with one group of parameters per factor of the rate."""
        o, groups = self.options, self.stretch.learner.groups(self.stretch.rate)
        if o.optimizer == "sgd":
            made: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=o.momentum, weight_decay=o.weight_decay)
        else:
            kind = torch.optim.AdamW if o.optimizer == "adamw" else torch.optim.Adam
            made = kind(groups, betas=o.betas, eps=o.epsilon, weight_decay=o.weight_decay)
        return made

    def on_fit_start(self) -> None:
        """The trunk goes where the network is; the optimizer goes on where it was."""
        for trunk in self._trunk:
            trunk.to(self.device)
        if self._optimizer_state is not None:
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            optimizer.load_state_dict(self._optimizer_state)
        if self.trainer.world_size > 1:
            self._world_sum = lambda t: self.trainer.strategy.reduce(t, reduce_op="sum")  # type: ignore[return-value]

    def on_train_start(self) -> None:
        """Lightning leaves a module that it did not train as it is."""
        self.network.train()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients are clipped here, where float16's have been brought back to scale."""
        if self.options.clip is not None:
            self.clip_gradients(optimizer, self.options.clip, "norm")

    def training_step(self, batch: dict[str, Any], _: int) -> None:
        """One batch; the last one of an iteration moves the parameters."""
        iteration, optimizer = batch["iteration"], self.optimizers()
        if not self._batch_sums:
            _start_random_numbers(_seed(self.options.seed, iteration, self.global_rank))
            optimizer.zero_grad()  # type: ignore[union-attr]
        if len(batch["targets"]):
            x, targets, objective = batch["inputs"], batch["targets"], self.stretch.objective
            logits = self._logits(objective.mixed(x, iteration))
            loss = objective.loss(logits, targets, training=True, draw=iteration)
            self.manual_backward(loss * (self.trainer.world_size / batch["total"]))
            count = torch.tensor(float(len(targets)), device=logits.device)
            loss_now = loss.detach().float() / batch["total"]
            self._batch_sums.append(torch.stack([loss_now, objective.batch_figure(logits.detach(), targets), count]))
        if batch["last"]:
            self._move(optimizer, iteration)

    def _move(self, optimizer: Any, iteration: int) -> None:
        o = self.options
        share = o.rate(iteration, self.stretch.total, self.stretch.order.per_epoch, self.stretch.joined)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * share
        optimizer.step()
        self._sums.append((iteration, self.stretch.rate * share, torch.stack(self._batch_sums).sum(0)))
        self._batch_sums = []
        self.standing.iteration = done = iteration + 1
        if self.tick is not None and self.global_rank == 0:
            self.tick(done)
        if done % o.validation_every == 0 or done == self.stretch.total:
            self._validated()
        elif done == self.stretch.stop:  # another part of the network joins now
            self.standing.seconds = time.monotonic() - self._started
            self._record(None, None)
            if self.global_rank == 0:
                self._keep()

    # one iteration's end -----------------------------------------------------------------------------------------

    def _validated(self) -> None:
        stretch = self.stretch
        loss, figure = None, None
        if stretch.validation is not None and len(stretch.validation):
            loss, figure = validate(self, stretch.learner, stretch.validation, stretch.objective,
                                    self.options.batch_size, self._world_sum)  # fmt: skip
        standing, o = self.standing, self.options
        standing.seconds = time.monotonic() - self._started
        self._record(loss, figure)
        if loss is not None:
            worth = (-loss,) if o.keep == "loss" or stretch.objective.task == "values" else (figure or 0.0, -loss)
            if worth > tuple(standing.best_worth):
                standing.best_worth, standing.best_iteration = worth, standing.iteration
                if o.keep != "last":
                    self.best = stretch.learner.state()
            standing.since_best = 0 if loss < standing.best_loss else standing.since_best + 1
            standing.best_loss = min(loss, standing.best_loss)
            if o.patience is not None and standing.since_best >= o.patience:
                standing.stopped = self.trainer.should_stop = True
        if self.global_rank == 0:
            self._keep()
            if self.listener is not None:
                self.listener(self.folder, standing)

    def _record(self, loss: float | None, figure: float | None) -> None:
        """Rows of the history for the iterations since the last validation."""
        if not self._sums:
            return
        table = self._world_sum(torch.stack([s for _, _, s in self._sums])).cpu().tolist()
        for (iteration, rate, _), (loss_sum, figure_sum, count) in zip(self._sums, table, strict=True):
            if not math.isfinite(loss_sum):
                raise CheckFailed(
                    f"the loss of iteration {iteration + 1} is not finite",
                    hint="a smaller learning rate, or --clip 1, or weights without bf16",
                )
            mean = figure_sum / count
            last = iteration + 1 == self.standing.iteration
            self.folder.rows.append(
                {
                    "iteration": iteration + 1,
                    "epoch": iteration // self.stretch.order.per_epoch + 1,
                    "phase": self.stretch.phase,
                    "learning_rate": rate,
                    "training_loss": loss_sum,
                    "training_figure": mean**0.5 if self.stretch.objective.task == "values" else mean,
                    "validation_loss": loss if last else None,
                    "validation_figure": figure if last else None,
                    "seconds": round(self.standing.seconds, 3),
                }
            )
        self._sums = []

    def _keep(self) -> None:
        self.folder.flush()
        final = self.standing.iteration == self.stretch.stop or self.standing.stopped
        if self.folder.path is None or not (final or self.folder.due("checkpoint")):
            return
        started = time.monotonic()
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        self.folder.save(
            {
                "standing": asdict(self.standing),
                "phase": self.stretch.phase,
                "state": self.stretch.learner.state(),
                "best": self.best,
                "optimizer": optimizer.state_dict(),
            }
        )
        self.folder.timed("checkpoint", time.monotonic() - started)

    def _logits(self, inputs: list[Tensor]) -> Tensor:
        if self._trunk:
            with torch.no_grad():
                made = self._trunk[0](*inputs)
            inputs = [made] if isinstance(made, Tensor) else list(made)
        return self.stretch.objective.prepared(as_rows(self._run(*self.stretch.learner.arranged(inputs))))


def _start_random_numbers(seed: int) -> None:
    """What torch.manual_seed does; which, where no GPU is in use, spends 1.5 ms on remembering who called it."""
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence([*numbers, 4]).generate_state(1)[0])


def fit(
    stretch: Stretch,
    options: TrainOptions,
    folder: RunFolder,
    standing: Standing,
    *,
    best: State | None = None,
    optimizer_state: dict[str, Any] | None = None,
    listener: Listener | None = None,
    tick: Callable[[int], None] | None = None,
) -> State | None:
    """Train a stretch from ``standing.iteration`` on; the learner's module and ``standing`` change.

    ``listener`` is called after each validation, ``tick`` after each iteration, both by the first process alone.

    Returns:
        The best weights so far, where ``options.keep`` is best.

    Raises:
        CheckFailed: the loss is not finite any more.
        DeviceError: the device cannot be used.
    """
    module = Fit(stretch, options, folder, standing, best, listener, tick, optimizer_state)
    with quiet():
        trainer = trainer_of(options)
        batches = Batches(
            stretch.training,
            stretch.order,
            accumulate=options.accumulate,
            weights=stretch.objective.example_weights,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        gpu = trainer.strategy.root_device.type == "cuda"
        workers = options.workers if options.workers is not None else readers(stretch.training, gpu)
        data = loader(batches, standing.iteration, stretch.stop, workers, gpu)
        try:
            trainer.fit(module, data)
        except SystemExit as error:  # Lightning's answer to Ctrl-C
            if trainer.interrupted and error.code == 1:
                raise KeyboardInterrupt from None
            raise
    return module.best
