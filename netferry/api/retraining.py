"""``retrain`` and ``fit``: another head, training on new data, and the result as checked ONNX with a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.api.retraining_inputs import augmentation, check_input, options_of, read_sounds, with_front_end
from netferry.api.retraining_job import HeadOptions, Job, engines
from netferry.api.training import require_torch
from netferry.api.training_data import DataSets, open_training_data
from netferry.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from netferry.runtime.data.folder import Pictures
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.options import TrainOptions
    from netferry.runtime.training.sounds import SoundAugment
    from netferry.schemas.model import Model


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
    augment: Augment | SoundAugment | str | None = "default",
    options: TrainOptions | None = None,
    run: StrPath | None = None,
    resume: bool = False,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    on_error: str = "fail",
    opset: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Retrain a network of any format on new data and write it as ONNX, with its layer names and preprocessing.

    Args:
        source: an ONNX, Keras, Caffe … file, or a model.
        data: a folder with one sub-folder per class (or train, validation and test folders), a CSV file (classes,
            labels, values), an .npz file with x and y, or pictures. A sound network takes sound files in their place:
            it learns from their patches, each with the sound's target, and a sound's scores are the mean of its
            patches'.
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
            (13 % of the side of inputs below 227). To sounds: a :class:`SoundAugment`, or a text like
            ``shift=0.24,gain=6,noise=20``, which is the default (seconds, decibels, decibels under the sound).
        options: :class:`TrainOptions`; its fields may also be given by name (``epochs=10``).
        run: folder for everything else that is written.
        resume: go on from the run's last checkpoint, where there is one.
        sweep: values to compare, by option (``{"learning_rate": [1e-3, 1e-4]}``; also train, at, head); the best by
            the smallest validation loss is written.
        on_error: ``skip`` leaves out pictures that cannot be read and lists them in the report; ``fail`` ends there.
        opset: of the file; the source's own by default.
        more: fields of :class:`TrainOptions`, and options of :func:`netferry.load`.

    Returns:
        The report: model, data, options, training, test, mistakes, learning rates, hashes, versions.

    Raises:
        NetferryError: nothing is written at ``target`` then.
    """
    _require_training()
    chosen, reading = options_of(options, more)
    with _one_run():
        model = source.copy() if not isinstance(source, (str, Path)) else load(source, weights, **reading)
        if isinstance(source, (str, Path)) is False and (weights is not None or reading):
            raise UsageError("a model that is loaded already takes no options for reading")
        from netferry.api.batching import with_dynamic_batch

        heard = read_sounds(model)
        with_dynamic_batch(model)
        sets = open_training_data(data, split, chosen.seed, task, on_error, None if heard is None else heard[0])
        check_input(model, sets)
        changes = augmentation(augment, sets, model)
        settings = HeadOptions(head, at, train, hidden)
        place = Path(target)
        place = place if place.suffix else place.with_suffix(".onnx")
        folder = Path(run) if run is not None else place.with_name(f"{place.stem}-run")
        job = Job(model, sets, place, folder, settings, changes, chosen, dict(lr_factors or {}), resume, opset,
                  front_end=heard)  # fmt: skip
        return job.swept(sweep) if sweep else job.carried_out()


def fit(
    model: Model,
    training: Pictures,
    validation: Pictures | None = None,
    *,
    augment: Augment | SoundAugment | str | None = "default",
    options: TrainOptions | None = None,
    run: StrPath | None = None,
    resume: bool = False,
    new_head: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train a model in place, on pictures: the step between ``with_head`` and ``save``.

    What ``freeze``, ``unfreeze`` and ``set_lr_factor`` said on the model counts.

    Args:
        model: the network.
        training, validation: pictures; their classes are the model's, in order.
        augment, options, run, resume, more: see :func:`retrain`.
        new_head: the head was drawn at random (``with_head``): its scale is set by real examples, and it learns alone
            at first where more learns, as :func:`retrain` does it. Without it training starts from the values as they
            are.

    Returns:
        ``history`` (a row per iteration), ``changed`` (initializers), iterations, kept weights, rates, trunk, device.

    Raises:
        UsageError: nothing learns, or the pictures do not fit the network.
    """
    from netferry.runtime.training.train import train

    _require_training()
    chosen, unknown = options_of(options, more)
    if unknown:
        raise UsageError(f"no training option {sorted(unknown)[0]!r}")
    with _one_run():
        empty = training.subset([])
        heard = read_sounds(model)
        sets = DataSets(training.root.name, training.task, training.classes,
                        pictures=(training, validation or empty, empty), sound=heard and heard[0])  # fmt: skip
        check_input(model, sets)
        changes = augmentation(augment, sets, model)
        seen = sets.examples(1, model, None, chosen.seed) if validation is not None and len(validation) else None
        outcome = train(model, sets.examples(0, model, changes, chosen.seed), seen, chosen, engines(),
                        task=training.task, folder=None if run is None else Path(run), resume=resume,
                        fresh_head=new_head)  # fmt: skip
        if heard is not None and heard[1]:
            with_front_end(model, *heard)
    kept = outcome.standing.iteration if outcome.kept == "last" else outcome.standing.best_iteration
    return {
        "history": outcome.history, "changed": outcome.changed, "iterations": outcome.standing.iteration,
        "kept": outcome.kept, "kept_iteration": kept, "learning_rate": outcome.rate, "factors": outcome.factors,
        "trunk": outcome.trunk, "device": outcome.device,
    }  # fmt: skip


def _require_training() -> None:
    from importlib.util import find_spec

    require_torch()
    for package in ("lightning", "sklearn", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training")
    if find_spec("onnxruntime") is None:
        raise MissingExtra("onnxruntime", "cpu", "testing the trained network")


@contextmanager
def _one_run() -> Iterator[None]:
    """Leave torch's state as it was."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        yield
