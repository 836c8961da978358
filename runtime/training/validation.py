"""Loss and figure of a network over a validation set, on one device or several."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from netferry.runtime.training.examples import Examples
from netferry.runtime.training.network import Learner
from netferry.runtime.training.objective import Objective


def as_rows(logits: Tensor) -> Tensor:
    """(N, K) of what may be (N, K, 1, 1)."""
    return logits.flatten(1) if logits.ndim > 2 else logits


def validate(
    module: pl.LightningModule,
    learner: Learner,
    examples: Examples,
    objective: Objective,
    batch_size: int,
    world_sum: Callable[[Tensor], Tensor],
) -> tuple[float, float]:
    """Mean loss and figure over a validation set.

    Args:
        module: Lightning's view, which knows device, rank and precision.
        learner: the network, in evaluation mode meanwhile.
        examples: at least one.
        objective: loss and figure.
        batch_size: examples per run.
        world_sum: adds a tensor up over all processes.
    """
    trainer, network = module.trainer, learner.network
    network.eval()
    whole = objective.task == "labels"  # its figure needs all scores in one place
    rank, world = (0, 1) if whole else (module.global_rank, trainer.world_size)
    sums = torch.zeros(3, device=module.device, dtype=torch.float64)
    held: list[tuple[Tensor, Tensor]] = []
    rows = list(range(len(examples)))[rank::world]
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            x = [torch.from_numpy(a).to(module.device) for a in examples.inputs(some)]
            targets = torch.from_numpy(np.ascontiguousarray(examples.targets[some])).to(module.device)
            logits = objective.prepared(as_rows(network(*learner.arranged(x))))
            weights = objective.example_weights
            total = float(len(some)) if weights is None else float(weights[examples.targets[some]].sum())
            loss = objective.loss(logits, targets, training=False)
            figure = objective.batch_figure(logits, targets)
            sums += torch.stack([loss.double(), torch.tensor(total).to(loss).double(), figure.double()])
            if whole:
                held.append((logits, targets))
    network.train()
    if not whole:
        sums = world_sum(sums)
    mean = float(sums[0] / sums[1])
    if whole:
        return mean, objective.figure(torch.cat([a for a, _ in held]), torch.cat([b for _, b in held]))
    share = float(sums[2]) / len(examples)
    return mean, share**0.5 if objective.task == "values" else share
