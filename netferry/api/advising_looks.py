"""What ``advise`` looks at: a sample of the data, the network's features of it, how well they tell classes apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from netferry.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data.folder import Pictures
    from netferry.schemas.model import Model
    from netferry.schemas.sound import SoundRecipe

_SAMPLE = 400
_PATCHES = 64


def sample_of(pictures: Pictures, seed: int) -> Pictures:
    """Return at most 400 pictures or sounds, all classes alike."""
    import numpy as np

    per_class = max(2, _SAMPLE // pictures.num_classes)
    rows: list[int] = []
    for number in range(pictures.num_classes):
        members = np.flatnonzero(pictures.targets == number)
        rows += np.random.default_rng([seed, number]).permutation(members)[:per_class].tolist()
    return pictures.subset(sorted(rows))


def features(model: Model, sample: Pictures, recipe: SoundRecipe | None = None) -> tuple[np.ndarray, float]:
    """Return what the head reads, averaged over places (and a sound's patches), and the mean of the greatest scores.

    Args:
        model: reads pictures, or the patches of sounds.
        sample: the files.
        recipe: how sounds become patches; None where they are pictures.

    Raises:
        UsageError: what the head reads is of unknown shape.
    """
    import numpy as np

    from netferry.api.saving import save
    from netferry.runtime.session import Session
    from netferry.schemas.head import ending_of
    from netferry.schemas.publish import temporary_folder

    whole = model.copy()
    ending = ending_of(whole)
    value = ending.output if ending.classifier is None else ending.classifier.inputs[0]
    if value is None or value.shape is None:
        raise UsageError("the network's features are of unknown shape")
    if value not in list(whole.graph.outputs):
        whole.graph.outputs.append(value)
    port = whole.inputs[0]
    found: dict[int, list[np.ndarray]] = {}
    answers: dict[int, list[np.ndarray]] = {}
    with temporary_folder() as folder:
        save(whole, folder / "features.onnx", check="structure")
        session = Session(folder / "features.onnx", device="cpu")
        for inputs, item_of in _batches(whole, sample, recipe):
            made = session.run({port.name: inputs}, [value.name or "", ending.output.name or ""])
            feature = made[value.name or ""]
            feature = feature.reshape(len(inputs), feature.shape[1], -1).mean(2)
            scores = made[ending.output.name or ""].reshape(len(inputs), -1)
            for item, row, score in zip(item_of, feature, scores, strict=True):
                found.setdefault(item, []).append(row)
                answers.setdefault(item, []).append(score)
    greatest = [np.mean(rows, 0).max() for rows in answers.values()]
    certain = float(np.mean(greatest)) if ending.activation is not None else float("nan")
    return np.stack([np.mean(rows, 0, np.float64) for rows in found.values()]), certain


def _batches(model: Model, sample: Pictures, recipe: SoundRecipe | None) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
    """Inputs of the network, and which item each row is of: sixteen pictures, or patches of one sound."""
    from netferry.runtime.training.examples import PictureExamples
    from netferry.runtime.training.sounds import SoundExamples

    port = model.inputs[0]
    if recipe is not None:
        heard = SoundExamples(sample, recipe, [d for d in (port.shape or ())[1:] if isinstance(d, int)])
        for item in range(len(sample)):
            patches = heard.whole(item)
            for start in range(0, len(patches), _PATCHES):
                part = patches[start : start + _PATCHES]
                yield part, [item] * len(part)
        return
    height, width, _ = model.input_size
    size = (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
    examples = PictureExamples(sample, model.preprocessing[port.name], size)
    for start in range(0, len(sample), 16):
        rows = list(range(start, min(start + 16, len(sample))))
        yield examples.inputs(rows)[0], rows


def left_out_accuracy(features: np.ndarray, targets: np.ndarray, classes: int) -> float:
    """Return the accuracy of ridge regression on one-hot targets, each example left out in turn (PRESS)."""
    import numpy as np

    x = (features - features.mean(0)) / (features.std(0) + 1e-9)
    x = np.hstack([x / np.sqrt(x.shape[1]), np.ones((len(x), 1))])
    wanted = np.eye(classes)[targets]
    kernel = x @ x.T
    hat = kernel @ np.linalg.inv(kernel + 0.1 * np.eye(len(x)))
    left_out = wanted - (wanted - hat @ wanted) / (1 - np.diag(hat))[:, None]
    return float((left_out.argmax(1) == targets).mean())


def equal_files(pictures: Pictures) -> list[list[str]]:
    """Return pairs of files with equal content; sizes are compared first."""
    import hashlib
    from collections import defaultdict

    by_size: dict[int, list[int]] = defaultdict(list)
    for row, file in enumerate(pictures.files):
        by_size[file.stat().st_size].append(row)
    seen: dict[str, int] = {}
    pairs: list[list[str]] = []
    for rows in by_size.values():
        for row in rows if len(rows) > 1 else []:
            with pictures.files[row].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest in seen:
                pairs.append([str(pictures.files[seen[digest]]), str(pictures.files[row])])
            seen.setdefault(digest, row)
    return pairs


def lengths(sounds: Pictures, recipe: SoundRecipe) -> dict[str, float]:
    """Return the shortest, median and longest of the sounds, in seconds."""
    import numpy as np

    from netferry.runtime.sounds import length_of

    seconds = [length_of(file, recipe.sample_rate) / recipe.sample_rate for file in sounds.files]
    return {"shortest": min(seconds), "median": float(np.median(seconds)), "longest": max(seconds)}
