"""``evaluate`` of networks that give no scores of one class out of several: labels that may all be there, values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.errors import UsageError, quoted

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data.folder import Pictures
    from netferry.runtime.predict import Classifier


def of_targets(
    classifier: Classifier, data: Sequence[Any], *, batch: int, on_error: str, workers: int | None = None
) -> dict[str, Any]:
    """Measure a network that gives labels or values.

    Args:
        classifier: the network; it has names for what it gives.
        data: one CSV file as ``retrain`` takes it; for labels also one folder, where a picture that lies in several
            sub-folders has all their labels.

    Returns:
        ``items``, ``task``, ``skipped`` and of labels ``map``, ``labels_right``, ``per_class`` (average precision), of
        values ``rmse``, ``per_class`` (rmse, mae, r2).

    Raises:
        UsageError: other data, or names that the network does not have.
    """
    import numpy as np

    from netferry.runtime.data.checked import without
    from netferry.runtime.data.table import labels_from_folders, read_table
    from netferry.runtime.training.testing import judged

    task = classifier.task
    path = Path(str(data[0])) if len(data) == 1 else None
    if path is None or (not path.is_dir() and path.suffix.lower() != ".csv") or (path.is_dir() and task == "values"):
        raise UsageError(
            f"the network gives {task}: it is measured on one CSV file" + (" or folder" if task == "labels" else ""),
            hint="a column with the files and one per label or value; see docs/retrain.md",
        )
    pictures = labels_from_folders(path) if path.is_dir() else read_table(path, task)
    names, targets = _in_order(pictures, classifier)
    files = [Path(f) for f in pictures.files]
    scored = list(classifier.scored(files, batch, on_error=on_error, workers=workers))
    bad = {number: loaded.error.reason for number, (loaded, _) in enumerate(scored) if loaded.error is not None}
    without(pictures, bad)  # enough is left
    scores = np.array([row for _, row in scored if row is not None], np.float64)
    found = judged(scores, np.delete(targets, list(bad), 0), names, task)
    count = found.pop("count")
    return {"items": count, **found, "skipped": [{"item": str(files[n]), "error": why} for n, why in bad.items()]}


def _in_order(pictures: Pictures, classifier: Classifier) -> tuple[list[str], np.ndarray]:
    """Targets with the columns that the network has; a label that no picture has may be missing."""
    import numpy as np

    if classifier.labels is None:
        return list(pictures.classes), pictures.targets
    names = classifier.labels
    unknown = [c for c in pictures.classes if c not in names]
    missing = [n for n in names if n not in pictures.classes] if classifier.task == "values" else []
    if unknown or missing:
        what = f"{quoted(unknown[0])} is none of the network's" if unknown else f"the data lack {quoted(missing[0])}"
        raise UsageError(f"{what} {classifier.task}", hint=f"the network's: {', '.join(names[:20])}")
    targets = np.zeros((len(pictures), len(names)), np.float32)
    targets[:, [names.index(c) for c in pictures.classes]] = pictures.targets
    return names, targets
