"""What a finished file is worth: its scores on the test set, through onnxruntime, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import UsageError
from netferry.runtime.data.folder import Pictures
from netferry.runtime.predict import Classifier
from netferry.runtime.session import Session


def scores_to_labels(scores: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The class with the greatest score of each row; the first of several equal ones."""
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise UsageError(f"scores of shape {list(scores.shape)} do not fit {len(classes)} classes")
    return [classes[int(i)] for i in np.argmax(scores, 1)]


def accuracy(found: Sequence[object], truth: Sequence[object]) -> float:
    """Share of equal entries; NaN for none.

    Raises:
        UsageError: not as many of one as of the other.
    """
    if len(found) != len(truth):
        raise UsageError(f"{len(found)} labels found, {len(truth)} are true")
    pairs = list(zip(found, truth, strict=True))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else float("nan")


def confusion_matrix(found: np.ndarray, truth: np.ndarray, size: int) -> np.ndarray:
    """Counts: row the true class, column the found one."""
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (truth, found), 1)
    return matrix


def scores_of_pictures(session: Session, pictures: Pictures, batch: int = 16) -> np.ndarray:
    """(N, K) scores of pictures as the file gives them, by the preprocessing that it carries."""
    classifier = Classifier(session)
    rows = [row for _, row in classifier.scored([Path(f) for f in pictures.files], batch)]
    return np.array([r for r in rows if r is not None], np.float64)


def scores_of_arrays(session: Session, x: np.ndarray, batch: int = 64) -> np.ndarray:
    """(N, K) scores of examples in an array."""
    port = session.inputs[0]
    fixed = port.shape[0] if port.shape else None
    size = fixed if isinstance(fixed, int) else batch
    found: list[np.ndarray] = []
    for start in range(0, len(x), size):
        part = x[start : start + size].astype(port.numpy or x.dtype, copy=False)
        missing = size - len(part) if isinstance(fixed, int) else 0
        fed = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        made = session.run({port.name: np.ascontiguousarray(fed)}, [session.outputs[0].name])
        found.append(made[session.outputs[0].name][: len(part)].reshape(len(part), -1))
    return np.concatenate(found).astype(np.float64) if found else np.zeros((0, 0))


def judged(scores: np.ndarray, targets: np.ndarray, classes: Sequence[str], task: str) -> dict[str, Any]:
    """Figures of a test set as plain data.

    Classes: accuracy, confusion matrix, recall and precision per class. Labels: mean average precision, each label's,
    share of right labels. Values: root mean square error, mean absolute error and R² per value.
    """
    out: dict[str, Any] = {"task": task, "count": len(targets)}
    if not len(targets):
        return out
    if task == "classes":
        found = np.argmax(scores, 1)
        matrix = confusion_matrix(found, targets, len(classes))
        out["accuracy"] = float((found == targets).mean())
        out["confusion"] = matrix.tolist()
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, precision = np.diag(matrix) / matrix.sum(1), np.diag(matrix) / matrix.sum(0)
        out["per_class"] = [
            {"class": c, "count": int(n), "recall": _or_none(r), "precision": _or_none(p)}
            for c, n, r, p in zip(classes, matrix.sum(1), recall, precision, strict=True)
        ]
    elif task == "labels":
        from sklearn.metrics import average_precision_score

        there = [i for i in range(len(classes)) if targets[:, i].any()]
        each = {i: float(average_precision_score(targets[:, i], scores[:, i])) for i in there}
        out["map"] = float(np.mean(list(each.values()))) if each else None
        out["labels_right"] = float(((scores > 0.5) == (targets > 0.5)).mean())
        out["per_class"] = [
            {"class": c, "count": int(targets[:, i].sum()), "average_precision": each.get(i)}
            for i, c in enumerate(classes)
        ]
    else:
        error = scores - targets
        spread = ((targets - targets.mean(0)) ** 2).sum(0)
        out["rmse"] = float(np.sqrt((error**2).mean()))
        out["per_class"] = [
            {
                "class": c,
                "rmse": float(np.sqrt((error[:, i] ** 2).mean())),
                "mae": float(np.abs(error[:, i]).mean()),
                "r2": None if not spread[i] else float(1 - (error[:, i] ** 2).sum() / spread[i]),
            }
            for i, c in enumerate(classes)
        ]
    return out


def worst(
    scores: np.ndarray, targets: np.ndarray, classes: Sequence[str], names: Sequence[str], most: int = 12
) -> list[dict[str, Any]]:
    """The wrong answers that the network was surest of: item, true label, found label, their scores."""
    found = np.argmax(scores, 1) if len(scores) else np.zeros(0, np.int64)
    wrong = np.flatnonzero(found != targets)
    surest = sorted(wrong.tolist(), key=lambda i: float(scores[i, targets[i]] - scores[i, found[i]]))
    return [
        {
            "item": names[i],
            "true": classes[int(targets[i])],
            "found": classes[int(found[i])],
            "score": float(scores[i, found[i]]),
            "score_of_true": float(scores[i, targets[i]]),
        }
        for i in surest[:most]
    ]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
