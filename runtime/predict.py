"""Classify pictures: the recipe and the labels come from the model, or from the caller.

For serving: imports numpy, Pillow and onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from netferry.errors import CheckFailed, MalformedFile, NetferryError, UsageError
from netferry.runtime.pictures import expand, named
from netferry.runtime.ports import (
    LABELS_KEY,
    PREPROCESSING_KEY,
    SOURCE_KEY,
    metadata_of,
    picture_input,
    score_output,
    size_of,
)
from netferry.runtime.preprocess import Picture, preprocess
from netferry.runtime.session import Session
from netferry.schemas.labels import check_labels
from netferry.schemas.preprocessing import COLORS, Preprocessing

__all__ = ["Candidate", "Classifier", "Prediction", "expand", "predict"]

SUM_TOLERANCE = 1e-2
"""Scores that sum to one within this are probabilities; a softmax in float16 over 1,000 classes is off by 5e-3."""


@dataclass(frozen=True)
class Candidate:
    """One answer."""

    label: str
    """the class's name, ``class 7`` where the model has no labels"""
    index: int
    score: float


@dataclass(frozen=True)
class Prediction:
    """The answers for one picture, the best first; or why there are none."""

    item: str
    """the path, or ``picture 0`` for one that has none"""
    top: tuple[Candidate, ...] = ()
    softmax: bool = False
    """whether netferry turned the net's scores into probabilities (the net gave none)"""
    error: NetferryError | None = None
    """set where ``on_error="skip"`` went over a picture that cannot be read"""

    @property
    def best(self) -> Candidate | None:
        """The first answer."""
        return self.top[0] if self.top else None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        if self.error is not None:
            return {"item": self.item, "error": self.error.as_dict()}
        rows = [{"label": c.label, "class": c.index, "score": c.score} for c in self.top]
        return {"item": self.item, "softmax": self.softmax, "top": rows}


def predict(
    session: Session,
    items: Iterable[Picture],
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    top: int = 5,
    *,
    batch: int | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    softmax: bool | None = None,
) -> list[Prediction]:
    """Classify pictures; returns one :class:`Prediction` per picture, in order.

    Args:
        session: the model.
        items: paths of pictures, folders (their pictures, sub-folders included, sorted), glob patterns, Pillow
            images or arrays.
        preprocessing, labels: used instead of what the model carries.
        top: how many answers for each.
        batch: pictures in one run; by default 16, or what the model fixes.
        on_error: ``skip`` goes over pictures that cannot be read and says so in ``Prediction.error``.
        softmax: True or False forces it; None applies it where the scores are no probabilities.

    Raises:
        UsageError: the model is no picture classifier, or recipe or labels do not fit it.
        InputError, LimitExceeded: a picture cannot be read (``on_error="fail"``); an item matches nothing.
        MalformedFile: the model's own recipe or labels are broken.
        CheckFailed: the run failed or the scores are not finite.
    """
    classifier = Classifier(session, preprocessing, labels, softmax=softmax)
    return list(classifier.predict(expand(items), top, batch, on_error=on_error))


class Classifier:
    """A session with what makes it a picture classifier. May be shared between threads.

    Attributes:
        input, output: the ports used.
        recipe: how pictures become the input; ``recipe_from`` says whose it is: ``caller``, ``model`` or ``assumed``
            (the model carries none: plain 0..255 values resized to the input; grey, RGB, or Caffe's own BGR).
        labels: class names, or None.
    """

    def __init__(
        self,
        session: Session,
        preprocessing: Preprocessing | None = None,
        labels: Sequence[str] | None = None,
        *,
        softmax: bool | None = None,
        output: str | None = None,
    ) -> None:
        self.session, self.softmax = session, softmax
        recipes = metadata_of(session, PREPROCESSING_KEY)
        known = metadata_of(session, LABELS_KEY)
        self.input = picture_input(session, recipes)
        self.output = score_output(session, known, output)
        self.recipe, self.recipe_from = self._recipe(preprocessing, recipes.get(self.input.name))
        self.labels = self._labels(labels, known.get(self.output.name))
        self.size = size_of(self.input, self.recipe.layout)
        self._check_channels()

    def _recipe(self, given: Preprocessing | None, carried: Any) -> tuple[Preprocessing, str]:
        if given is not None:
            return given, "caller"
        if carried is not None:
            try:
                return Preprocessing.from_dict(carried), "model"
            except MalformedFile as error:
                raise error.at(file=self.session.file, layer=self.input.name) from None
        shape = self.input.shape
        layout = "NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW"
        channels = shape[3] if layout == "NHWC" else shape[1]
        order = "BGR" if metadata_of(self.session, SOURCE_KEY).get("format") == "caffe" else "RGB"
        return Preprocessing(color="GRAY" if channels == 1 else order, layout=layout), "assumed"

    def _labels(self, given: Sequence[str] | None, carried: Any) -> list[str] | None:
        if given is not None:
            return list(given)
        if carried is None:
            return None
        if not isinstance(carried, list) or not all(isinstance(v, str) for v in carried):
            raise MalformedFile(f"{LABELS_KEY} holds no list of labels", file=self.session.file)
        try:
            return check_labels(carried)
        except MalformedFile as error:
            raise error.at(file=self.session.file, layer=self.output.name) from None

    def _check_channels(self) -> None:
        channels = self.input.shape[3 if self.recipe.layout == "NHWC" else 1]
        if isinstance(channels, int) and channels != COLORS[self.recipe.color]:
            raise UsageError(
                f"input {self.input} has {channels} channels, but the recipe makes {self.recipe.color} pictures "
                f"({self.recipe.layout})",
                file=self.session.file,
                hint="choose the color (RGB, BGR, GRAY) and layout (NCHW, NHWC) that the model was trained with",
            )

    def predict(
        self,
        items: Iterable[Picture],
        top: int = 5,
        batch: int | None = None,
        *,
        on_error: Literal["fail", "skip"] = "fail",
    ) -> Iterator[Prediction]:
        """Yield a prediction per picture, in order; see :func:`predict`. Pictures are decoded while the net runs."""
        if top < 1 or (batch is not None and batch < 1):
            raise UsageError(f"top and batch must be at least 1, not {top} and {batch}")
        fixed = self.input.shape[0]
        size = fixed if isinstance(fixed, int) else batch or 16
        with ThreadPoolExecutor(4) as pool:
            waiting: list[tuple[str, Future[np.ndarray]]] = []
            try:
                for number, item in enumerate(items):
                    waiting.append((named(item, number), pool.submit(self.tensor, item)))
                    if len(waiting) == 2 * size:  # one batch runs while the next is decoded
                        yield from self._run(waiting[:size], size, top, on_error)
                        del waiting[:size]
                while waiting:
                    yield from self._run(waiting[:size], size, top, on_error)
                    del waiting[:size]
            finally:
                for _, future in waiting:
                    future.cancel()

    def tensor(self, picture: Picture) -> np.ndarray:
        """Return the input tensor of one picture, without the batch dimension, of the input's element type."""
        array = preprocess(picture, self.recipe, self.size)
        wanted = self.input.numpy
        if wanted == np.uint8:
            return np.clip(np.round(array), 0, 255).astype(np.uint8)
        return array if wanted is None else array.astype(wanted, copy=False)

    def _run(
        self, chunk: list[tuple[str, Future[np.ndarray]]], size: int, top: int, on_error: str
    ) -> Iterator[Prediction]:
        results: list[Prediction | None] = []
        groups: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for position, (name, future) in enumerate(chunk):
            results.append(None)
            try:
                array = future.result()
                groups.setdefault(array.shape, []).append((position, array))
            except NetferryError as error:
                if on_error != "skip" or isinstance(error, UsageError):
                    raise
                results[position] = Prediction(name, error=error)
        for members in groups.values():  # one group, unless the input takes pictures of any size
            scores = self.scores(np.stack([array for _, array in members]), size)
            probabilities, applied = self._as_probabilities(scores)
            for (position, _), row in zip(members, probabilities, strict=True):
                results[position] = Prediction(chunk[position][0], self._best(row, top), applied)
        yield from (r for r in results if r is not None)

    def scores(self, tensors: np.ndarray, pad_to: int | None = None) -> np.ndarray:
        """Return the net's raw scores (N, classes) in float64 for a batch of tensors.

        Raises:
            UsageError: the tensors do not fit the input; the output is not one row of scores per picture.
            CheckFailed: the run failed, or scores are not finite.
        """
        count = len(tensors)
        if isinstance(self.input.shape[0], int) and pad_to is not None and count < pad_to:
            empty = np.zeros((pad_to - count, *tensors.shape[1:]), tensors.dtype)
            tensors = np.concatenate([tensors, empty])
        raw = self.session.run({self.input.name: tensors}, [self.output.name])[self.output.name]
        shape = raw.shape
        if (
            raw.dtype.kind != "f"
            or not raw.ndim
            or shape[0] != len(tensors)
            or raw.size != len(tensors) * max(shape[1:], default=1)
        ):
            raise UsageError(
                f"output {self.output} is not one score per class and picture: {len(tensors)} pictures gave "
                f"{list(shape)}",
                file=self.session.file,
                hint="predict is for picture classifiers; features gives the values of any layer",
            )
        scores = raw.reshape(len(tensors), -1)[:count].astype(np.float64)
        if not np.isfinite(scores).all():
            raise CheckFailed("the scores are not finite (NaN or infinity)", file=self.session.file)
        if (
            self.labels is not None
            and len(self.labels) != scores.shape[1]
            and (scores.shape[1], len(self.labels)) != (1, 2)
        ):
            raise UsageError(
                f"there are {len(self.labels)} labels, but the model has {scores.shape[1]} classes",
                file=self.session.file,
            )
        return scores

    def _as_probabilities(self, scores: np.ndarray) -> tuple[np.ndarray, bool]:
        """The scores, or their softmax where they are none; whether it was applied.

        A single score is the probability of class 1 of two, as a sigmoid gives it.
        """
        if scores.shape[1] == 1:
            if (scores < 0).any() or (scores > 1).any():
                scores = 1 / (1 + np.exp(-scores))
            return (np.hstack([1 - scores, scores]) if self.labels and len(self.labels) == 2 else scores), False
        if self.softmax is not None:
            apply = self.softmax
        else:
            apply = bool((scores < 0).any() or (np.abs(scores.sum(1) - 1) > SUM_TOLERANCE).any())
        if not apply:
            return scores, False
        e = np.exp(scores - scores.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), True

    def _best(self, row: np.ndarray, top: int) -> tuple[Candidate, ...]:
        order = np.argsort(-row, kind="stable")[:top]
        labels = self.labels
        return tuple(
            Candidate(labels[i] if labels is not None else f"class {i}", int(i), float(row[i])) for i in order.tolist()
        )
