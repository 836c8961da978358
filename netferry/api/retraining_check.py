"""The written file on the test set, through onnxruntime, beside what torch makes of the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netferry.api.training import to_torch
from netferry.api.training_data import DataSets
from netferry.errors import CheckFailed

if TYPE_CHECKING:
    import numpy as np

    from netferry.schemas.model import Model

AGREEMENT = 1e-4
"""Largest difference between torch's and the exported file's scores on the test set"""
_CHECKED = 4096
"""examples of the test set on which torch and the exported file are compared, at most"""


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
    names = [o.name for o in model.outputs]
    wanted = names.index(_scored(model))
    found: list[np.ndarray] = []

    def scored(arrays: list[np.ndarray]) -> np.ndarray:
        made = module(*(torch.from_numpy(a) for a in arrays))
        made = made if isinstance(made, torch.Tensor) else made[wanted]
        return made.reshape(len(arrays[0]), -1).double().numpy()

    with torch.no_grad():
        if sets.sound is not None:  # a sound's scores are the mean of its patches'
            sounds = sets.sounds(2, model)
            found += [scored([sounds.whole(i)]).mean(0, keepdims=True) for i in range(count)]
        else:
            examples = sets.examples(2, model, None, 0)
            for start in range(0, count, 16):
                found.append(scored(examples.inputs(list(range(start, min(start + 16, count))))))
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
