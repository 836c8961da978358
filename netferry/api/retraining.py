"""``retrain``: another head, training on new data, and the result as checked ONNX with a report."""

from __future__ import annotations

import itertools
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.api.training import require_torch, to_torch, update_from
from netferry.api.training_data import DataSets, open_training_data
from netferry.api.writing import save
from netferry.errors import CheckFailed, InputError, MalformedFile, MissingExtra, UsageError

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data.folder import Pictures
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.options import TrainOptions
    from netferry.runtime.training.train import Engines, Outcome
    from netferry.schemas.model import Model

AGREEMENT = 1e-4
"""Largest difference between torch's and the exported file's scores on the test set"""
_CHECKED = 4096
"""examples of the test set on which torch and the exported file are compared, at most"""


@dataclass(frozen=True)
class HeadOptions:
    """Which head, and what learns besides it."""

    kind: str = "linear"
    at: str | None = None
    train: str = "head"
    hidden: int = 256


def retrain(
    source: StrPath | Model,
    data: StrPath | Pictures | Sequence[Pictures],
    target: StrPath,
    *,
    weights: StrPath | None = None,
    head: str = "linear",
    at: str | None = None,
    hidden: int = 256,
    train: str = "head",
    lr_factors: Mapping[str, float] | None = None,
    task: str | None = None,
    split: tuple[float, float] = (0.7, 0.15),
    augment: Augment | str | None = "default",
    options: TrainOptions | None = None,
    run: StrPath | None = None,
    resume: bool = False,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    opset: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Retrain a network of any format on new data and write it as ONNX, with its layer names and preprocessing.

    Args:
        source: an ONNX, Keras, Caffe … file, or a model.
        data: a folder with one sub-folder per class (or train, validation and test folders), a CSV file (classes,
            labels, values), an .npz file with x and y, or pictures.
        target: the ONNX file to write. Beside it a folder ``<name>-run`` gets history.csv, progress.png,
            confusion.png, report.json, report.html and the checkpoints; ``run`` names another one.
        weights: the second file of formats that have one.
        head, at, hidden: kind of head (linear, mlp, conv), the layer it is put on, width of an mlp; see
            :func:`netferry.schemas.rehead.with_head`.
        train: ``head``, ``all``, or the name of the first layer that learns.
        lr_factors: factor of the learning rate per layer, or per ``layer:parameter``.
        task: classes, labels or values; by default what the data look like.
        split: shares of training and validation; the rest is the test set.
        augment: changes to training pictures: an :class:`Augment`, a text like ``flip,translate=30,rotate=10``, or
            None for nothing. By default reflections left to right and translations by up to 30 pixels
            (13 % of the side of inputs below 227).
        options: :class:`TrainOptions`; its fields may also be given by name (``epochs=10``).
        run: folder for everything else that is written.
        resume: go on from the run's last checkpoint, where there is one.
        sweep: values to compare, by option (``{"learning_rate": [1e-3, 1e-4]}``; also train, at, head); the best by
            the smallest validation loss is written.
        opset: of the file; the source's own by default.
        more: fields of :class:`TrainOptions`, and options of :func:`netferry.load`.

    Returns:
        The report: model, data, options, training, test, mistakes, learning rates, hashes, versions.

    Raises:
        NetferryError: nothing is written at ``target`` then.
    """
    _require_training()
    chosen, reading = _options(options, more)
    with _one_run():
        model = source.copy() if not isinstance(source, (str, Path)) else load(source, weights, **reading)
        if isinstance(source, (str, Path)) is False and (weights is not None or reading):
            raise UsageError("a model that is loaded already takes no options for reading")
        from netferry.api.batching import with_dynamic_batch

        with_dynamic_batch(model)
        sets = open_training_data(data, split, chosen.seed, task)
        _check_input(model, sets)
        changes = _augmentation(augment, sets, model)
        settings = HeadOptions(head, at, train, hidden)
        place = Path(target)
        place = place if place.suffix else place.with_suffix(".onnx")
        folder = Path(run) if run is not None else place.with_name(f"{place.stem}-run")
        job = Job(model, sets, place, folder, settings, changes, chosen, dict(lr_factors or {}), resume, opset)
        return job.swept(sweep) if sweep else job.carried_out()


def fit(
    model: Model,
    training: Pictures,
    validation: Pictures | None = None,
    *,
    augment: Augment | str | None = "default",
    options: TrainOptions | None = None,
    run: StrPath | None = None,
    resume: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train a model in place, on pictures: the step between ``with_head`` and ``save``.

    What ``freeze``, ``unfreeze`` and ``set_lr_factor`` said on the model counts.

    Args:
        model: the network.
        training, validation: pictures; their classes are the model's, in order.
        augment, options, run, resume, more: see :func:`retrain`.

    Returns:
        ``history`` (a row per iteration), ``changed`` (initializers), iterations, kept weights, rates, trunk, device.

    Raises:
        UsageError: nothing learns, or the pictures do not fit the network.
    """
    from netferry.runtime.training.train import train

    _require_training()
    chosen, unknown = _options(options, more)
    if unknown:
        raise UsageError(f"no training option {sorted(unknown)[0]!r}")
    with _one_run():
        empty = training.subset([])
        sets = DataSets(training.root.name, training.task, training.classes,
                        pictures=(training, validation or empty, empty))  # fmt: skip
        _check_input(model, sets)
        changes = _augmentation(augment, sets, model)
        seen = sets.examples(1, model, None, chosen.seed) if validation is not None and len(validation) else None
        outcome = train(model, sets.examples(0, model, changes, chosen.seed), seen, chosen, engines(),
                        task=training.task, folder=None if run is None else Path(run), resume=resume,
                        fresh_head=False)  # fmt: skip
    kept = outcome.standing.best_iteration if outcome.kept == "best" else outcome.standing.iteration
    return {
        "history": outcome.history, "changed": outcome.changed, "iterations": outcome.standing.iteration,
        "kept": outcome.kept, "kept_iteration": kept, "learning_rate": outcome.rate, "factors": outcome.factors,
        "trunk": outcome.trunk, "device": outcome.device,
    }  # fmt: skip


@dataclass
class Job:
    """One call of :func:`retrain`, with everything looked up."""

    model: Model
    sets: DataSets
    target: Path
    folder: Path
    head: HeadOptions
    augment: Augment | None
    options: TrainOptions
    lr_factors: dict[str, float]
    resume: bool
    opset: int | None

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

        if _first_process():
            self._record_or_compare()
        with following(self) as (notify, tick):
            model, outcome = self.trained(self.folder, notify, tick)
        if not _first_process():
            return {}
        return self._finished(model, outcome)

    def _finished(self, model: Model, outcome: Outcome) -> dict[str, Any]:
        from netferry.api.retraining_report import finish

        found: dict[str, Any] = {}
        written = save(
            model, self.target, opset=self.opset, before_publishing=lambda file, **where: found.update(
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


def tested(file: Any, model: Model, sets: DataSets, **where: Any) -> dict[str, Any]:
    """Scores of the test set through onnxruntime, figures, mistakes, and how far torch is from them.

    Raises:
        CheckFailed: torch and the file differ by more than 1e-4, or in a label.
    """
    import numpy as np
    import torch

    from netferry.runtime.session import Session
    from netferry.runtime.training.testing import judged, scores_of_arrays, scores_of_pictures, worst

    session = Session(file, device="cpu", threads=torch.get_num_threads(), **where)
    targets = sets.targets(2)
    names = [str(f) for f in sets.pictures[2].files] if sets.pictures else [f"row {i}" for i in range(len(targets))]
    if not len(targets):
        scores = np.zeros((0, len(sets.classes)))
    elif sets.pictures:
        scores = scores_of_pictures(session, sets.pictures[2])
    else:
        scores = scores_of_arrays(session, sets.arrays[2][0])
    figures = judged(scores, targets, sets.classes, sets.task)
    mistakes = worst(scores, targets, sets.classes, names) if sets.task == "classes" else []
    return {"test": figures, "mistakes": mistakes, "agreement": _agreement(model, sets, scores), "scores": scores}


def _agreement(model: Model, sets: DataSets, scores: np.ndarray) -> dict[str, Any]:
    import numpy as np
    import torch

    count = min(len(scores), _CHECKED)
    if not count:
        return {"examples": 0}
    module = to_torch(model).eval()
    examples = sets.examples(2, model, None, 0)
    names = [o.name for o in model.outputs]
    wanted = names.index(_scored(model))
    found: list[np.ndarray] = []
    with torch.no_grad():
        for start in range(0, count, 16):
            rows = list(range(start, min(start + 16, count)))
            made = module(*(torch.from_numpy(a) for a in examples.inputs(rows)))
            made = made if isinstance(made, torch.Tensor) else made[wanted]
            found.append(made.reshape(len(rows), -1).double().numpy())
    ours, theirs = np.concatenate(found), scores[:count]
    scale = 1.0 if sets.task != "values" else max(1.0, float(np.abs(theirs).max()))
    worst = float(np.abs(ours - theirs).max()) / scale
    equal = bool((ours.argmax(1) == theirs.argmax(1)).all()) if sets.task == "classes" else None
    if worst > AGREEMENT or equal is False:
        raise CheckFailed(f"the file's scores differ from torch's by up to {worst:.2g} on {count} test examples")
    return {"examples": count, "max_difference": worst, "labels_equal": equal}


def _scored(model: Model) -> str:
    from netferry.schemas.head import scores_output

    return scores_output(model).name or ""


def engines() -> Engines:
    """What training needs of other rooms."""
    from netferry.runtime.training.train import Engines

    return Engines(to_torch, update_from, lambda model, path: save(model, path, check="structure"))


def _choose_learning(model: Model, train: str) -> None:
    if train == "all":
        return
    made = {r.name for r in model.layers if r.name == "head" or r.name.startswith("head/")}
    model.freeze(except_=[model.head().layer, *made])
    if train != "head":
        model.unfreeze(from_=train)


def _augmentation(augment: Augment | str | None, sets: DataSets, model: Model) -> Augment | None:
    from netferry.runtime.training.augment import Augment, parse_augment

    if not sets.pictures:
        if augment not in (None, "default", "none"):
            raise UsageError("augmentation is for pictures")
        return None
    if augment == "default":  # 30 pixels of 227, MATLAB's, and no larger a share of smaller pictures
        sides = [d for d in model.input_size[:2] if isinstance(d, int)]
        most = min(30, round(min(sides, default=227) * 30 / 227))
        augment = Augment(translate=(most, most))
    made = parse_augment(augment) if isinstance(augment, str) else augment
    return None if made is None or made.does_nothing else made


def _check_input(model: Model, sets: DataSets) -> None:
    """A recipe for pictures, assumed where the model carries none; the arrays' shape."""
    if len(model.inputs) != 1:
        raise UsageError(f"training feeds one input, the network has {len(model.inputs)}")
    port = model.inputs[0]
    if not sets.pictures:
        given = sets.arrays[0][0].shape[1:]
        wanted = () if port.shape is None else port.shape[1:]
        fits = len(given) == len(wanted) and all(
            not isinstance(w, int) or w == g for g, w in zip(given, wanted, strict=True)
        )
        if not fits:
            raise UsageError(f"x has examples of shape {list(given)}, the network takes {list(wanted)}")
        return
    assume_preprocessing(model)


def assume_preprocessing(model: Model) -> None:
    """Give a network that does not say how pictures become its input the plain recipe, with a note.

    Raises:
        UsageError: the recipe makes another number of channels than the network takes.
    """
    from netferry.schemas.model import Note
    from netferry.schemas.preprocessing import COLORS, Preprocessing

    port, (*_, channels) = model.inputs[0], model.input_size
    if port.name not in model.preprocessing:
        color = "GRAY" if channels == 1 else "BGR" if model.source.format == "caffe" else "RGB"
        shape = list(port.shape or ())
        layout = "NHWC" if shape[-1] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
        model.preprocessing[port.name] = Preprocessing(color=color, layout=layout)
        text = (
            f"the network does not say how pictures become its input; {color} values 0..255, resized (--mean, --scale)"
        )
        model.notes.append(Note("assumed", text))
    recipe = model.preprocessing[port.name]
    if isinstance(channels, int) and channels != COLORS[recipe.color]:
        raise UsageError(f"the network takes {channels} channels, its preprocessing makes {recipe.color}")


def _options(options: TrainOptions | None, more: Mapping[str, Any]) -> tuple[TrainOptions, dict[str, Any]]:
    from dataclasses import fields

    from netferry.runtime.training.options import TrainOptions

    known = {f.name for f in fields(TrainOptions)}
    given = {k: v for k, v in more.items() if k in known}
    reading = {k: v for k, v in more.items() if k not in known}
    return (options or TrainOptions()).with_(**given), reading


def _require_training() -> None:
    from importlib.util import find_spec

    require_torch()
    for package in ("lightning", "sklearn", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training")
    if find_spec("onnxruntime") is None:
        raise MissingExtra("onnxruntime", "cpu", "testing the trained network")


def _first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def _one_run() -> Iterator[None]:
    """Leave torch's state as it was."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        yield


def versions() -> dict[str, str]:
    """Versions of what took part."""
    from importlib.metadata import version

    from netferry import __version__

    names = ("torch", "lightning", "onnxruntime", "onnx", "numpy", "pillow")
    found: dict[str, str] = {"netferry": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except Exception:  # onnxruntime comes in several packages
            found[name] = str(getattr(sys.modules.get(name), "__version__", "?"))
    return {**found, "platform": platform.platform()}
