"""How to train: every choice with its default, checked before anything starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from netferry.errors import UsageError

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "step")
TRUNKS = ("auto", "plain", "no-grad", "cached")
LOGGERS = ("tensorboard", "mlflow", "wandb")
HEAD_RATE, WHOLE_RATE = 1e-3, 1e-4
WHOLE_SMOOTHING = 0.1


@dataclass(frozen=True)
class TrainOptions:
    """How to train. MATLAB's names for the same things are in docs/retrain.md."""

    optimizer: str = "adam"
    """adam, adamw (decoupled weight decay) or sgd"""
    learning_rate: float | None = None
    """of parameters whose factor is 1; by default 1e-3 where the head alone learns, else 1e-4"""
    momentum: float = 0.9
    """of sgd"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay of adam's running means"""
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: str = "cosine"
    """constant, cosine or linear (down to 0 at the end), step (times ``drop_factor`` every ``drop_every`` epochs)"""
    warmup: int = 0
    """iterations in which the rate rises linearly from 0"""
    drop_factor: float = 0.1
    drop_every: int = 10
    epochs: int = 30
    batch_size: int = 32
    """examples per iteration and accumulation, all devices together"""
    accumulate: int = 1
    """batches whose gradients make one iteration"""
    clip: float | None = None
    """largest norm of all gradients together"""
    validation_every: int = 5
    """iterations between two validations; the last iteration is always one"""
    patience: int | None = None
    """stop after so many validations in a row without a smaller loss"""
    keep: str = "best"
    """weights kept at the end: ``best`` (highest validation accuracy or precision, of equals the smallest loss; of
    values the smallest loss), ``loss`` (smallest validation loss) or ``last``"""
    class_weights: str | tuple[float, ...] | None = None
    """``balanced`` (inverse to how often a class is there), or one weight per class"""
    label_smoothing: float | None = None
    """share of the truth that is spread over all classes; by default 0.1 where more than the head learns classes (whole
    networks soon know few pictures by heart; Szegedy et al. 2016), else 0"""
    mixup: float = 0.0
    """alpha of the beta distribution that mixes pairs of examples (Zhang et al. 2018); 0 mixes none"""
    loss: str | None = None
    """of values: mse (default), mae or huber; classes take cross-entropy, labels binary cross-entropy"""
    precision: str = "32"
    """32, bf16 (autocast) or 16 (autocast, on GPUs)"""
    compile: bool = False
    """run the trained part through torch.compile"""
    head_first: int | None = None
    """epochs in which the head learns alone before what else learns joins (Kumar et al. 2022, "Fine-tuning can distort
    pretrained features"); by default a third of all where the head is new, 0 where it is not"""
    unfreeze_every: int | None = None
    """gradual unfreezing: the next block in front of the head joins every so many epochs (Howard & Ruder 2018)"""
    layer_decay: float = 1.0
    """discriminative rates: each block's rate is that of the block behind it times this"""
    trunk: str = "auto"
    """how a frozen trunk runs: ``cached`` (features computed once), ``no-grad``, ``plain``, or what fits"""
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    """processes that read pictures; by default threads on a processor, up to 8 processes beside a GPU"""
    seed: int = 0
    loggers: tuple[str, ...] = ()
    """tensorboard, mlflow, wandb, besides history.csv"""
    verbose: bool = True
    """show progress on stderr when it is a terminal"""

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("trunk", TRUNKS),
                              ("keep", ("best", "loss", "last")), ("precision", ("32", "bf16", "16")),
                              ("loss", (None, "mse", "mae", "huber"))):  # fmt: skip
            if getattr(self, name) not in allowed:
                listed = ", ".join(str(a) for a in allowed if a)
                raise UsageError(f"{name} is one of {listed}, not {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "accumulate", "validation_every", "drop_every", "devices", "nodes"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UsageError(f"{name} is a whole number of at least 1, not {getattr(self, name)!r}")
        if self.head_first is not None and self.head_first < 0:
            raise UsageError(f"head_first is a number of epochs, not {self.head_first}")
        for name in ("patience", "unfreeze_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"learning_rate is above 0, not {self.learning_rate}")
        if self.clip is not None and not self.clip > 0:
            raise UsageError(f"clip is above 0, not {self.clip}")
        for name, least, most in (("momentum", 0, 1), ("label_smoothing", 0, 1), ("layer_decay", 0, 1)):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} lies within {least} and {most}, not {getattr(self, name)}")
        if self.mixup < 0 or self.weight_decay < 0 or self.warmup < 0 or self.seed < 0:
            raise UsageError("mixup, weight_decay, warmup and seed are 0 or more")
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            raise UsageError(f"class_weights is balanced or one number per class, not {self.class_weights!r}")
        for name in self.loggers:
            if name not in LOGGERS:
                raise UsageError(f"a logger is {', '.join(LOGGERS)}, not {name!r}")

    def with_(self, **changes: Any) -> TrainOptions:
        """Return a copy with some fields changed.

        Raises:
            UsageError: no such option, or not such a value.
        """
        known = {f.name for f in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise UsageError(f"no training option {unknown[0]!r}", hint=f"there are {', '.join(sorted(known))}")
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def rate(self, iteration: int, total: int, per_epoch: int, joined: int = 0) -> float:
        """Factor of the learning rate at an iteration (from 0) of ``total``.

        Args:
            iteration, total: where training is.
            per_epoch: iterations in an epoch.
            joined: the iteration in which layers joined last; above 0 the rate rises anew over an epoch, since the
                optimizer knows nothing of their gradients yet.
        """
        rise = min(1.0, (iteration + 1) / self.warmup) if self.warmup else 1.0
        if joined:
            rise *= min(1.0, (iteration + 1 - joined) / per_epoch)
        done = iteration / max(total, 1)
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "linear":
            return rise * (1 - done)
        if self.schedule == "step":
            return rise * self.drop_factor ** (iteration // (per_epoch * self.drop_every))
        return rise
