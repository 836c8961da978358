"""One call of ``retrain``, carried out: prepare, train, write, test, report; or a sweep of several."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.launching import first_process
from netferry.api.retraining_check import tested
from netferry.api.retraining_inputs import with_front_end
from netferry.api.saving import save
from netferry.api.training import to_torch, update_from
from netferry.api.training_data import DataSets
from netferry.errors import InputError, MalformedFile, UsageError

if TYPE_CHECKING:
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.options import TrainOptions
    from netferry.runtime.training.part import Engines
    from netferry.runtime.training.sounds import SoundAugment
    from netferry.runtime.training.train import Outcome
    from netferry.schemas.model import Model
    from netferry.schemas.sound import SoundRecipe


@dataclass(frozen=True)
class HeadOptions:
    """Which head, and what learns besides it."""

    kind: str = "linear"
    at: str | None = None
    train: str = "head"
    hidden: int = 256


@dataclass
class Job:
    """One call of :func:`retrain`, with everything looked up."""

    model: Model
    sets: DataSets
    target: Path
    folder: Path
    head: HeadOptions
    augment: Augment | SoundAugment | None
    options: TrainOptions
    lr_factors: dict[str, float]
    resume: bool
    opset: int | None
    front_end: tuple[SoundRecipe, str] | None = None
    """recipe and input of a sound network's front end, which is off while it learns; no name where there was none"""
    notes: list[str] = field(default_factory=list)
    """what happened on the way that the report should tell"""

    def prepared(self) -> Model:
        """The network with its new head, and what is to learn."""
        made = self.model.with_head(
            list(self.sets.classes), at=self.head.at, kind=self.head.kind, task=self.sets.task,
            hidden=self.head.hidden, seed=self.options.seed,
        )  # fmt: skip
        _choose_learning(made, self.head.train)
        for name, factor in self.lr_factors.items():
            layer, _, parameter = name.partition(":")
            made.set_lr_factor(layer, parameter or None, factor)
        return made

    def trained(self, folder: Path | None, notify: Any = None, tick: Any = None) -> tuple[Model, Outcome]:
        """Train; returns the trained network and what happened."""
        from netferry.runtime.training.train import train

        model = self.prepared()
        seed = self.options.seed
        training = self.sets.examples(0, model, self.augment, seed)
        validation = self.sets.examples(1, model, None, seed) if len(self.sets.targets(1)) else None
        outcome = train(model, training, validation, self.options, engines(), task=self.sets.task, folder=folder,
                        resume=self.resume, listener=notify, tick=tick)  # fmt: skip
        return model, outcome

    def carried_out(self) -> dict[str, Any]:
        """Train, write, test, report."""
        from netferry.api.progress import following

        if first_process():
            self._record_or_compare()
        with following(self) as (notify, tick):
            model, outcome = self.trained(self.folder, notify, tick)
        if not first_process():
            return {}
        return self._finished(model, outcome)

    def _finished(self, model: Model, outcome: Outcome) -> dict[str, Any]:
        from netferry.api.retraining_report import finish

        found: dict[str, Any] = {}
        whole = model
        if self.front_end is not None and self.front_end[1]:
            whole = model.copy()
            with_front_end(whole, *self.front_end)
        written = save(
            whole, self.target, opset=self.opset, before_publishing=lambda file, **where: found.update(
                tested(file, model, self.sets, **where)
            ),
        )  # fmt: skip
        return finish(self, model, outcome, found, written)

    def _record_or_compare(self) -> None:
        """Keep what the run was asked for; a run that goes on must be asked for the same."""
        from netferry.schemas.publish import write_whole

        wanted = json.loads(json.dumps(self.wish(), default=str))
        record = self.folder / "run.json"
        if self.resume and record.exists():
            try:
                known = json.loads(record.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise MalformedFile(f"is no record of a run ({type(error).__name__})", file=record) from None
            differing = sorted(k for k in {*known, *wanted} if known.get(k) != wanted.get(k))
            if differing:
                raise UsageError(
                    f"the run was started with other {', '.join(differing)}",
                    file=record,
                    hint="give the same options and data, or start anew without --resume",
                )
            return
        self.resume = False  # nothing to go on from
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(error.strerror or str(error), file=self.folder) from None
        write_whole(record, json.dumps(wanted, indent=2) + "\n")

    def wish(self) -> dict[str, Any]:
        """What decides the result."""
        options = self.options.as_dict()
        for name in ("device", "devices", "nodes", "workers", "loggers", "verbose"):
            del options[name]
        learnt = {k: [v.dtype.name if v.dtype else "", str(v.shape)] for k, v in self.model.parameters(None).items()}
        return {
            "options": options,
            "augment": None if self.augment is None else self.augment.as_dict(),
            "head": self.head.__dict__,
            "learning rate factors": self.lr_factors,
            "data": self.sets.fingerprint(),
            "parameters": learnt,
        }

    def swept(self, sweep: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Train with every combination of the values; carry out the best and report all."""
        from dataclasses import replace

        rows: list[dict[str, Any]] = []
        for values in itertools.product(*sweep.values()):
            chosen = dict(zip(sweep, values, strict=True))
            job = self._with(chosen)
            _, outcome = job.trained(None)
            figures = [r for r in outcome.history if r["validation_loss"] is not None]
            best = min(figures, key=lambda r: float(r["validation_loss"]), default=None)
            if best is None:
                raise UsageError("a sweep compares by validation, and there are no validation examples")
            rows.append({**chosen, "validation_loss": best["validation_loss"], "validation": best["validation_figure"],
                         "iteration": best["iteration"], "seconds": round(outcome.standing.seconds, 2)})  # fmt: skip
        winner = min(rows, key=lambda r: float(r["validation_loss"]))
        job = replace(self._with({k: winner[k] for k in sweep}), resume=False)
        report = job.carried_out()
        return {**report, "sweep": rows} if report else {}

    def _with(self, chosen: Mapping[str, Any]) -> Job:
        from dataclasses import replace

        head_fields = {"train": "train", "at": "at", "head": "kind", "hidden": "hidden"}
        head = {head_fields[k]: v for k, v in chosen.items() if k in head_fields}
        others = {k: v for k, v in chosen.items() if k not in head_fields}
        return replace(self, head=replace(self.head, **head), options=self.options.with_(**others))


def engines() -> Engines:
    """What training needs of other rooms."""
    from netferry.runtime.training.part import Engines

    return Engines(to_torch, update_from, lambda model, path: save(model, path, check="structure"))


def _choose_learning(model: Model, train: str) -> None:
    if train == "all":
        return
    made = {r.name for r in model.layers if r.name == "head" or r.name.startswith("head/")}
    model.freeze(except_=[model.head().layer, *made])
    if train != "head":
        model.unfreeze(from_=train)
