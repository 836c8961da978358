"""Classify pictures: the recipe and the labels come from the model, or from the caller.

For serving: imports numpy, Pillow and onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from netferry.errors import CheckFailed, MalformedFile, NetferryError, UsageError
from netferry.runtime.data import Data, Loaded, load_ahead, open_data
from netferry.runtime.data.sources import Spec
from netferry.runtime.feed import Feed, Means, Tensors
from netferry.runtime.ports import LABELS_KEY, TASKS_KEY, metadata_of, score_output
from netferry.runtime.session import Session
from netferry.schemas.labels import check_labels
from netferry.schemas.preprocessing import Preprocessing

__all__ = ["Candidate", "Classifier", "Prediction", "predict"]


@dataclass(frozen=True)
class Candidate:
    """One answer."""

    label: str
    """the class's name, ``class 7`` where the model has no labels"""
    index: int
    score: float


@dataclass(frozen=True)
class Prediction:
    """The answers for one picture, the best first (values: all, in their own order); or why there are none."""

    item: str
    """the path, or ``picture 0`` for one that has none"""
    top: tuple[Candidate, ...] = ()
    softmax: bool = False
    """whether netferry turned the net's scores into probabilities (the net gave none)"""
    error: NetferryError | None = None
    """set where ``on_error="skip"`` went over a picture that cannot be read"""
    source: Any = field(default=None, compare=False, repr=False)
    """the picture or array itself, as the data gave it"""

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
    items: Data | Iterable[Spec],
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
        items: what :func:`netferry.runtime.data.open_data` takes: paths of pictures, folders, glob patterns, indexes,
            tars, array files; Pillow images or arrays.
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
    return list(classifier.predict(items, top, batch, on_error=on_error))


class Classifier:
    """A session with what makes it a classifier. May be shared between threads.

    Attributes:
        feed: how items become the input; has the recipe.
        output: the output with the scores.
        labels: class names, or None.
        task: what the output's numbers are: ``classes`` (scores of one class out of several), ``labels`` (several may
            be there) or ``values`` (numbers that are predicted).
    """

    def __init__(
        self,
        session: Session,
        preprocessing: Preprocessing | None = None,
        labels: Sequence[str] | None = None,
        *,
        softmax: bool | None = None,
        output: str | None = None,
        changes: dict[str, Any] | None = None,
    ) -> None:
        self.session, self.softmax = session, softmax
        self.feed = Feed(session, preprocessing, changes)
        known = metadata_of(session, LABELS_KEY)
        self.output = score_output(session, known, output)
        self.labels = self._labels(labels, known.get(self.output.name))
        task = metadata_of(session, TASKS_KEY).get(self.output.name)
        self.task = task if task in ("labels", "values") else "classes"

    @property
    def recipe(self) -> Preprocessing:
        """How pictures become the input."""
        return self.feed.recipe

    @property
    def recipe_from(self) -> str:
        """Whose the recipe is: caller, model or assumed."""
        return self.feed.recipe_from

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

    def predict(
        self,
        items: Data | Iterable[Spec],
        top: int = 5,
        batch: int | None = None,
        *,
        on_error: str = "fail",
        workers: int | None = None,
    ) -> Iterator[Prediction]:
        """Yield a prediction per item, in order; see :func:`predict`. Pictures are decoded while the net runs."""
        if top < 1:
            raise UsageError(f"top must be at least 1, not {top}")
        for loaded, scores in self.scored(items, batch, on_error=on_error, workers=workers):
            yield self.answer(loaded, scores, top)

    def answer(self, loaded: Loaded[Tensors], scores: np.ndarray | None, top: int) -> Prediction:
        """Return the prediction for an item with its raw scores (None: it could not be read)."""
        if scores is None:
            return Prediction(loaded.item.id, error=loaded.error, source=loaded.item.source)
        probabilities, applied = self.probabilities(scores[None])
        return Prediction(loaded.item.id, self._best(probabilities[0], top), applied, source=loaded.item.source)

    def scored(
        self,
        items: Data | Iterable[Spec],
        batch: int | None = None,
        *,
        on_error: str = "fail",
        workers: int | None = None,
        patches: dict[int, np.ndarray] | None = None,
    ) -> Iterator[tuple[Loaded[Tensors], np.ndarray | None]]:
        """Yield each item, in order, with the net's raw scores (classes,) in float64; None where it cannot be read.

        Args:
            patches: takes the scores of each sound's patches (patches x classes, float32), by the item's number.
        """
        if batch is not None and batch < 1:
            raise UsageError(f"batch must be at least 1, not {batch}")
        data = items if isinstance(items, Data) else open_data(items)
        size = self.feed.batch or batch or 16
        for chunk in load_ahead(data, self.feed, size, workers=workers, on_error=on_error):
            readable = [n for n, loaded in enumerate(chunk) if loaded.value is not None]
            rows: dict[int, np.ndarray] = {}
            values = [v for loaded in chunk if (v := loaded.value) is not None]
            for members, outputs in self.feed.run(values, [self.output.name]):
                scores = self._checked(outputs[self.output.name])
                rows.update((readable[m], row) for m, row in zip(members, scores, strict=True))
                if patches is not None and isinstance(outputs, Means):
                    raw = outputs.patches[self.output.name]
                    patches[chunk[readable[members[0]]].item.number] = raw.reshape(len(raw), -1).astype(np.float32)
            yield from ((loaded, rows.get(n)) for n, loaded in enumerate(chunk))

    def _checked(self, raw: np.ndarray) -> np.ndarray:
        """Raw scores as (N, classes) in float64.

        Raises:
            UsageError: the output is not one row of scores per item; the labels are too few or too many.
            CheckFailed: scores are not finite.
        """
        if raw.dtype.kind != "f" or raw.size != len(raw) * max(raw.shape[1:], default=1):
            raise UsageError(
                f"output {self.output} is not one score per class and picture: {len(raw)} pictures gave "
                f"{list(raw.shape)}",
                file=self.session.file,
                hint="predict is for picture classifiers; features gives the values of any layer",
            )
        scores = raw.reshape(len(raw), -1).astype(np.float64)
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

    def probabilities(self, scores: np.ndarray, apply: bool | None = None) -> tuple[np.ndarray, bool]:
        """The scores, or their softmax where they are none; whether it was applied.

        ``apply`` decides that in the place of the values, for parts of what was looked at as a whole.
        A single score is the probability of class 1 of two, as a sigmoid gives it. Labels that may all be there have
        their own probabilities, and values are no probabilities.
        """
        if self.task != "classes" and not self.softmax:
            return scores, False
        if scores.shape[1] == 1:
            if (scores < 0).any() or (scores > 1).any():
                scores = 1 / (1 + np.exp(-scores))
            return (np.hstack([1 - scores, scores]) if self.labels and len(self.labels) == 2 else scores), False
        # scores of 0 to 1 that do not sum to one are each its own: a sigmoid's, several may be there
        bounded = not (scores < 0).any() and not (scores > 1).any()
        if apply is None:
            apply = not bounded if self.softmax is None else self.softmax
        if not apply:
            return scores, False
        e = np.exp(scores - scores.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), True

    def _best(self, row: np.ndarray, top: int) -> tuple[Candidate, ...]:
        order = np.arange(len(row)) if self.task == "values" else np.argsort(-row, kind="stable")[:top]
        names = self.names(len(row))
        return tuple(Candidate(names[i], int(i), float(row[i])) for i in order.tolist())

    def names(self, count: int) -> list[str]:
        """The labels; where the network has none ``class 0`` …, of values ``value 0`` …."""
        kind = "value" if self.task == "values" else "class"
        return self.labels if self.labels is not None else [f"{kind} {i}" for i in range(count)]
