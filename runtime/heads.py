"""Classifiers on features (scikit-learn): fitted, judged on held-back items and by cross-validation."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.errors import MissingExtra, UsageError, quoted

CLASSIFIERS = ("svm", "logistic", "knn")


def pipeline(classifier: str, features: int = 1, *, c: float | None = None, neighbors: int = 5, seed: int = 0) -> Any:
    """Return an unfitted scikit-learn pipeline: standardise, then classify.

    Args:
        classifier: ``svm`` (linear, one against the rest), ``logistic`` (multinomial) or ``knn``.
        features: length of the vectors.
        c: inverse of the regularisation's strength, for ``svm`` and ``logistic``. By default 1, for ``svm`` divided by
            ``features``: a standardised vector is about the root of that long, and a support vector machine judges
            distances.
        neighbors: for ``knn``.

    Raises:
        UsageError: no such classifier, or a number out of range.
        MissingExtra: scikit-learn is not installed.
    """
    if classifier not in CLASSIFIERS:
        raise UsageError(f"classifier is {', '.join(CLASSIFIERS)}, not {quoted(classifier)}")
    if (c is not None and not c > 0) or neighbors < 1:
        raise UsageError(f"C must be above 0 and neighbors at least 1, not {c} and {neighbors}")
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC
    except ImportError:
        raise MissingExtra("scikit-learn", "head", "training a classifier") from None
    made = {
        "svm": lambda: LinearSVC(C=c or 1 / max(1, features), random_state=seed, max_iter=20_000),
        "logistic": lambda: LogisticRegression(C=c or 1.0, max_iter=2_000),
        "knn": lambda: KNeighborsClassifier(neighbors),
    }[classifier]()
    return make_pipeline(StandardScaler(), made)


def check_rows(x: np.ndarray, labels: Sequence[str | None]) -> np.ndarray:
    """Return the labels of features that can be learned from.

    Raises:
        UsageError: items without labels, one class only, values that are not finite, or no vectors.
    """
    missing = sum(label is None for label in labels)
    if missing:
        raise UsageError(
            f"{missing} of {len(labels)} items have no label",
            hint="a folder with one sub-folder per class labels them, or a column of a CSV or Parquet file",
        )
    classes = Counter(labels)
    if len(classes) < 2:
        raise UsageError(f"there is one class only ({quoted(next(iter(classes), 'none'))}), a classifier needs two")
    if x.ndim != 2 or not x.shape[1]:
        raise UsageError(f"features of shape {list(x.shape[1:])} are no vectors", hint="--pool avg, max or flatten")
    if not np.isfinite(x).all():
        raise UsageError("features are not finite (NaN or infinity)")
    return np.array([str(label) for label in labels])


def judge(
    x: np.ndarray, y: np.ndarray, make: Any, *, test_size: float = 0.3, seeds: int = 5, folds: int = 5
) -> dict[str, Any]:
    """Measure how well a pipeline learns: accuracy on held-back items and by cross-validation, per class alike split.

    Args:
        x: features (N, D).
        y: labels (N,).
        make: gives an unfitted pipeline.
        test_size: share that is held back.
        seeds: how many splits.
        folds: of the cross-validation, shuffled, seed 0.

    Returns:
        ``held_back`` (``test_size``, ``accuracies`` per seed, ``mean``) and ``cross_validation`` (``folds``,
        ``accuracies``, ``mean``, ``std``); a part is None where a class has too few items.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split

    if not 0 < test_size < 1 or seeds < 0 or folds < 0:
        raise UsageError(
            f"test_size is above 0 and below 1, seeds and folds are not negative: {test_size}, {seeds}, {folds}"
        )
    smallest = min(Counter(y.tolist()).values())
    report: dict[str, Any] = {"held_back": None, "cross_validation": None}
    if seeds and smallest >= 2 and len(y) * test_size >= len(set(y.tolist())):
        found = []
        for seed in range(seeds):
            fit, held = train_test_split(np.arange(len(y)), test_size=test_size, stratify=y, random_state=seed)
            found.append(float(fitted(make(), x[fit], y[fit]).score(x[held], y[held])))
        report["held_back"] = {"test_size": test_size, "accuracies": found, "mean": float(np.mean(found))}
    count = min(folds, smallest)
    if count >= 2:
        split = StratifiedKFold(count, shuffle=True, random_state=0).split(x, y)
        found = [float(fitted(make(), x[fit], y[fit]).score(x[held], y[held])) for fit, held in split]
        numbers = {"mean": float(np.mean(found)), "std": float(np.std(found))}
        report["cross_validation"] = {"folds": count, "accuracies": found, **numbers}
    return report


def fitted(made: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """Fit a pipeline; that an iteration stopped early is no warning of its own, the accuracy tells.

    Raises:
        UsageError: it cannot be fitted (more neighbors than items …).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.fit(x, y)
            made.predict(x[:1])
    except ValueError as error:
        raise UsageError(f"the classifier cannot be fitted: {quoted(error, 300)[1:-1]}") from None
    return made
