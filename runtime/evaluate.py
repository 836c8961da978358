"""How good a classifier is on labelled data: accuracy, precision and recall, confusion, calibration, worst mistakes.

Metrics are scikit-learn's; the calibration error is that of Guo et al. 2017 (https://arxiv.org/abs/1706.04599).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from netferry.errors import MissingExtra, NetferryError, UsageError
from netferry.runtime.data import Data, open_data
from netferry.runtime.data.sources import Spec
from netferry.runtime.decoding import Picture
from netferry.runtime.feed import Feed
from netferry.runtime.labelling import Labelling
from netferry.runtime.predict import Classifier
from netferry.runtime.session import Session

CROPS = ("model", "center", "none")
BINS = 15
"""of equal width, as Guo et al. have them"""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer."""

    item: str
    truth: int
    predicted: int
    confidence: float
    true_score: float
    source: Picture | dict[str, np.ndarray] = field(compare=False)

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """JSON form."""
        return {
            "item": self.item, "true": classes[self.truth], "predicted": classes[self.predicted],
            "confidence": self.confidence, "true_score": self.true_score,
        }  # fmt: skip


@dataclass
class Evaluation:
    """What was found; metrics are computed when asked for.

    Attributes:
        classes: name of every class of the network.
        truth, predicted: class numbers, (items,).
        confidence: score of the first answer; ``true_score`` that of the right one.
        rank: place of the right class among the answers, from 0; ties go to the class with the lower number.
        mistakes: the wrong answers of highest confidence, worst first.
        skipped: items that cannot be read, with the reason.
    """

    classes: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    true_score: np.ndarray
    rank: np.ndarray
    tops: tuple[int, ...]
    mistakes: list[Mistake]
    skipped: list[tuple[str, NetferryError]]
    softmax: bool

    @property
    def count(self) -> int:
        """How many items were classified."""
        return len(self.truth)

    @cached_property
    def top(self) -> dict[int, float]:
        """Share of items whose right class is among the first k answers, by k."""
        return {k: float((self.rank < k).mean()) for k in self.tops}

    @cached_property
    def matrix(self) -> np.ndarray:
        """Confusion matrix: rows are true classes, columns predicted ones."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.truth, self.predicted, labels=np.arange(len(self.classes)))

    @cached_property
    def present(self) -> np.ndarray:
        """Numbers of the classes that the data has or the network answered."""
        return np.unique(np.concatenate([self.truth, self.predicted]))

    @cached_property
    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and number of items (support) of each class that occurs."""
        from sklearn.metrics import precision_recall_fscore_support

        columns: Any = precision_recall_fscore_support(
            self.truth, self.predicted, labels=self.present, zero_division=cast(Any, 0.0)
        )
        return [
            {"class": self.classes[n], "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for n, p, r, f, s in zip(self.present.tolist(), *columns, strict=True)
        ]

    @cached_property
    def averages(self) -> dict[str, float]:
        """Means over the classes that the data has (macro), each class counting the same."""
        rows = [row for row in self.per_class if row["support"]]
        return {key: float(np.mean([row[key] for row in rows])) for key in ("precision", "recall", "f1")}

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """Expected and maximum calibration error of the first answer, and the bins of the reliability diagram."""
        return calibration(self.confidence, self.predicted == self.truth)

    @property
    def log_loss(self) -> float:
        """Mean negative logarithm of the right class's score."""
        return float(-np.log(np.clip(self.true_score, 1e-15, 1)).mean())

    def as_dict(self) -> dict[str, Any]:
        """JSON form, without the confusion matrix."""
        return {
            "items": self.count,
            **{f"top{k}": value for k, value in self.top.items()},
            "macro": self.averages,
            "per_class": self.per_class,
            "log_loss": self.log_loss,
            "calibration": self.calibration,
            "softmax": self.softmax,
            "mistakes": [m.as_dict(self.classes) for m in self.mistakes],
            "skipped": [{"item": item, "error": error.as_dict()} for item, error in self.skipped],
        }


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """Return ``ece`` (mean over the bins of |accuracy - confidence|, weighted by their items), ``mce`` (the largest),
    and ``bins``: low, high, count, accuracy, confidence (None where empty). Bins are of equal width, open below."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows: list[dict[str, Any]] = []
    gaps: list[tuple[float, int]] = []
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        accuracy = float(correct[inside].mean()) if count else None
        mean = float(confidence[inside].mean()) if count else None
        if accuracy is not None and mean is not None:
            gaps.append((abs(accuracy - mean), count))
        rows.append({"low": float(edges[number]), "high": float(edges[number + 1]), "count": count,
                     "accuracy": accuracy, "confidence": mean})  # fmt: skip
    total = sum(n for _, n in gaps) or 1
    ece = sum(gap * n for gap, n in gaps) / total
    return {"ece": ece, "mce": max((gap for gap, _ in gaps), default=0.0), "bins": rows}


def crop_changes(crop: str, feed: Feed, share: float = 0.875) -> dict[str, Any]:
    """Return the changes to a network's recipe that make a protocol's crop.

    ``model``: none. ``center``: the shorter side is resized to the input's divided by ``share`` and the centre cut out,
    as ImageNet's single-crop accuracies are measured. ``none``: the whole picture, stretched to the input.

    Raises:
        UsageError: no such protocol; the network fixes no input size.
    """
    if crop not in CROPS:
        raise UsageError(f"crop is {', '.join(CROPS)}, not {crop!r}")
    if crop == "model":
        return {}
    height, width = feed.size
    if height is None or width is None:
        known = feed.recipe.crop or feed.recipe.size
        if known is None:
            raise UsageError(f"--crop {crop} needs the input's size, and the network takes pictures of any size")
        height, width = known
    if crop == "none":
        return {"resize": "stretch", "size": (height, width), "crop": None}
    if not 0 < share <= 1:
        raise UsageError(f"the crop's share of the picture is above 0 and at most 1, not {share}")
    side = round(min(height, width) / share)
    side = max(side, height, width)  # an input that is not square must fit into a square picture
    return {"resize": "shortest", "size": (side, side), "crop": (height, width)}


def evaluate(
    session: Session,
    data: Data | Iterable[Spec],
    *,
    classifier: Classifier | None = None,
    batch: int | None = None,
    tops: Sequence[int] = (1, 5),
    worst: int = 25,
    on_error: str = "fail",
    workers: int | None = None,
) -> Evaluation:
    """Classify labelled items and compare the answers with the labels.

    Args:
        session: the network.
        data: items with labels.
        classifier: the session with another recipe, labels or output than the network's own.
        tops: for which k the share of right answers among the first k is told.
        worst: how many mistakes to keep.
        on_error: ``fail`` at an item that cannot be read, or ``skip`` it.

    Raises:
        UsageError: no items; an item without label, or with one that is no class of the network.
        MissingExtra: scikit-learn is not installed.
    """
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise MissingExtra("scikit-learn", "evaluate", "measuring accuracy")
    chosen = classifier or Classifier(session)
    items = data if isinstance(data, Data) else open_data(data)
    labelling: Labelling | None = None
    columns: list[tuple[int, int, float, float, int]] = []
    heap: list[tuple[float, int, Mistake]] = []
    skipped: list[tuple[str, NetferryError]] = []
    softmax = False
    for loaded, raw in chosen.scored(items, batch, on_error=on_error, workers=workers):
        item = loaded.item
        if raw is None:
            assert loaded.error is not None
            skipped.append((item.id, loaded.error))
            continue
        rows, applied = chosen.probabilities(raw[None])
        scores, softmax = rows[0], softmax or applied
        if len(scores) == 1:  # the probability of class 1 of two
            scores = np.array([1 - scores[0], scores[0]])
        if labelling is None:
            labelling = Labelling(chosen.labels, items.classes, len(scores))
        truth, predicted = labelling(item.label, item.id), int(scores.argmax())
        right = float(scores[truth])
        rank = int((scores > right).sum() + (scores[:truth] == right).sum())
        columns.append((truth, predicted, float(scores[predicted]), right, rank))
        if predicted != truth and worst:
            mistake = Mistake(item.id, truth, predicted, float(scores[predicted]), right, item.source)
            entry = (mistake.confidence, -len(columns), mistake)
            heapq.heappush(heap, entry) if len(heap) < worst else heapq.heappushpop(heap, entry)
    if labelling is None:
        raise UsageError("there is nothing to evaluate: no item could be read" if skipped else "the data has no items")
    truth, predicted, confidence, right, rank = (np.array(c) for c in zip(*columns, strict=True))
    limit = len(labelling.names)
    return Evaluation(
        labelling.names, truth, predicted, confidence, right, rank,
        tuple(dict.fromkeys(min(k, limit) if k > 1 else k for k in tops)),
        [m for *_, m in sorted(heap, key=lambda e: e[:2], reverse=True)], skipped, softmax,
    )  # fmt: skip
