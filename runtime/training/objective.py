"""What training makes smaller, and the figure that people read: per task, on the values in front of the last
activation, which is the numerically stable way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from netferry.errors import UsageError
from netferry.runtime.training.options import TrainOptions

METRICS = {"classes": "accuracy", "labels": "map", "values": "rmse"}
"""the figure of each task: share of right classes, mean average precision over the labels, root mean square error"""


class Objective:
    """Loss and figure of a task.

    Attributes:
        task: classes, labels or values.
        metric: name of the figure.
        weights: weight per class or None; for labels the weight of a label that is set.
        probabilities: whether the network gives probabilities whose softmax could not be taken off.
        center, spread: values are learnt as ``(value - center) / spread``.
    """

    def __init__(self, task: str, size: int, options: TrainOptions, targets: np.ndarray) -> None:
        self.task, self.size, self.options, self.metric = task, size, options, METRICS[task]
        self.weights = self._class_weights(targets)
        self.probabilities = False
        self.center, self.spread = np.zeros(size, np.float32), np.ones(size, np.float32)
        if task != "values" and options.loss is not None:
            raise UsageError(f"loss={options.loss} is for values, not for {task}")
        if task == "values" and options.mixup:
            raise UsageError("mixup is for classes and labels")

    def _class_weights(self, targets: np.ndarray) -> np.ndarray | None:
        given = self.options.class_weights
        if given is None:
            return None
        if self.task == "values":
            raise UsageError("class_weights are for classes and labels, not for values")
        if not isinstance(given, str):
            if len(given) != self.size or min(given) <= 0:
                raise UsageError(f"class_weights: {self.size} numbers above 0 are needed, not {list(given)}")
            return np.array(given, np.float32)
        if self.task == "labels":
            there = np.maximum(targets.sum(0), 1)
            return ((len(targets) - there + 1) / there).astype(np.float32)
        counts = np.maximum(np.bincount(targets, minlength=self.size), 1)
        return (len(targets) / (self.size * counts)).astype(np.float32)

    @property
    def example_weights(self) -> np.ndarray | None:
        """Weight of an example by its class, where examples weigh differently."""
        return self.weights if self.task == "classes" else None

    def prepared(self, scores: Tensor) -> Tensor:
        """What the network gives, as logits."""
        return scores.float().clamp(min=1e-12).log() if self.probabilities else scores

    def loss(self, logits: Tensor, targets: Tensor, *, training: bool, draw: int = 0) -> Tensor:
        """Sum of the losses of a batch; divided by the sum of weights (of examples) it is the mean.

        In training with label smoothing and mixup, without them otherwise.

        Args:
            logits: (N, K), in front of the last activation.
            targets: classes (N), or labels or values (N, K).
            training: whether regularization counts.
            draw: number that seeds mixup's share; the inputs were mixed with the same.
        """
        if self.task == "values":
            return self._value_loss(logits, targets)
        smoothing = (self.options.label_smoothing or 0.0) if training else 0.0
        weights = None if self.weights is None else torch.from_numpy(self.weights).to(logits)
        share = self.share(draw) if training else 1.0
        total = self._one(logits, targets, weights, smoothing) * share
        if share < 1:
            total = total + self._one(logits, targets.roll(1, 0), weights, smoothing) * (1 - share)
        return total

    def _one(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        if self.task == "classes":
            return F.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=smoothing)
        wanted = targets.to(logits) * (1 - smoothing) + smoothing / 2
        each = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weights, reduction="sum")
        return each / self.size

    def _value_loss(self, found: Tensor, targets: Tensor) -> Tensor:
        wanted = (targets - torch.from_numpy(self.center).to(targets)) / torch.from_numpy(self.spread).to(targets)
        kind: Any = {"mae": F.l1_loss, "huber": F.huber_loss}.get(self.options.loss or "", F.mse_loss)
        return kind(found, wanted.to(found), reduction="sum") / self.size

    def share(self, draw: int) -> float:
        """Share of the first of two mixed examples (Zhang et al. 2018); 1 without mixup."""
        alpha = self.options.mixup
        return float(np.random.default_rng([self.options.seed, 3, draw]).beta(alpha, alpha)) if alpha else 1.0

    def mixed(self, inputs: list[Tensor], draw: int) -> list[Tensor]:
        """Each example mixed with the one in front of it in the batch."""
        share = self.share(draw)
        return inputs if share == 1 else [x * share + x.roll(1, 0) * (1 - share) for x in inputs]

    def batch_figure(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum over a batch of what, divided by the number of examples, is the figure (for labels: of right ones)."""
        with torch.no_grad():
            if self.task == "classes":
                return (logits.argmax(1) == targets).sum().float()
            if self.task == "labels":
                return ((logits > 0) == (targets > 0.5)).float().mean(1).sum()
            spread = torch.from_numpy(self.spread).to(logits)
            center = torch.from_numpy(self.center).to(logits)
            return ((logits * spread + center - targets.to(logits)) ** 2).mean(1).sum()

    def figure(self, logits: Tensor, targets: Tensor) -> float:
        """The figure over a whole set."""
        if self.task == "labels":
            from sklearn.metrics import average_precision_score

            truth, scores = targets.cpu().numpy(), logits.float().cpu().numpy()
            there = [i for i in range(self.size) if truth[:, i].any()]
            found = [float(average_precision_score(truth[:, i], scores[:, i])) for i in there]
            return float(np.mean(found)) if found else float("nan")
        mean = float(self.batch_figure(logits, targets)) / max(len(targets), 1)
        return mean**0.5 if self.task == "values" else mean
