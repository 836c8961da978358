"""``advise``: how to retrain a network on given pictures, computed from the pictures and the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.datasets import pictures_of
from netferry.api.reading import StrPath, load
from netferry.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data.folder import Pictures
    from netferry.schemas.model import Model

FEW, MANY = 20, 500
"""pictures per class: below the first, features and a linear classifier are the better choice; from the second on
the network can learn anew what it sees"""
SIMILAR = 0.9
"""share that a linear classifier on the features gets right (left out by turns) from which on the data are like those
the network knows"""
_SAMPLE = 400


def advise(
    data: StrPath, source: StrPath | Model, *, weights: StrPath | None = None, seed: int = 0, **reading: Any
) -> dict[str, Any]:
    """Advise how to use a pretrained network for new pictures.

    Args:
        data: a folder with one sub-folder per class (one with train, validation and test folders: the training set), or
            a CSV file that names pictures and their classes.
        source, weights, reading: the network; see :func:`netferry.load`.
        seed: of the sample of at most 400 pictures that is looked at.

    Returns:
        ``advice`` (each with ``what``, ``why`` and a ``command``), and the facts: pictures per class, the accuracy of a
        linear classifier on the head's input (ridge regression, each picture left out in turn), the network's own
        certainty, equal files.

    Raises:
        NetferryError: the network or the pictures cannot be read.
    """
    from netferry.api.retraining_inputs import assume_preprocessing

    pictures = pictures_of(data)
    if pictures.task != "classes":
        raise UsageError(f"advise is for pictures of one class each, these have {pictures.task}", file=data)
    model = load(source, weights, **reading) if isinstance(source, (str, Path)) else source.copy()
    assume_preprocessing(model)
    counts = pictures.counts()
    sample = _sample(pictures, seed)
    features, certainty = _features(model, sample)
    linear = _left_out_accuracy(features, sample.targets, pictures.num_classes)
    facts = {
        "pictures": len(pictures), "classes": counts, "fewest": min(counts.values()), "most": max(counts.values()),
        "linear_accuracy": linear, "chance": max(counts.values()) / len(pictures), "certainty": certainty,
        "equal_files": _equal_files(pictures), "looked_at": len(sample), "head": model.head().layer,
    }  # fmt: skip
    named = "MODEL" if not isinstance(source, (str, Path)) else str(source) + (f" -w {weights}" if weights else "")
    return {**facts, "advice": _advice(facts, model, str(data), named)}


def _advice(facts: dict[str, Any], model: Model, data: str, network: str) -> list[dict[str, str]]:
    from netferry.schemas.learning import blocks

    fewest, linear = facts["fewest"], facts["linear_accuracy"]
    similar = linear >= SIMILAR
    base = f"netferry retrain {network} {data} -o mine.onnx"
    found = f"a linear classifier on the features in front of {facts['head']} gets {linear:.0%} right"
    advice: list[dict[str, str]] = []
    if fewest < FEW:
        what = "take the network's features as they are and train a linear classifier (SVM) on them"
        why = f"{fewest} pictures in the smallest class, fewer than {FEW}: too few to train layers on; {found}"
        advice.append({"what": what, "why": why, "command": f"netferry train-head {network} {data} -o mine.onnx"})
    elif fewest >= MANY and not similar:
        half = blocks(model)[len(blocks(model)) // 2][0]
        what = "unfreeze deeper: train everything, or from the middle of the network on"
        why = f"{fewest} pictures and more per class, and {found}: the data are many and unlike what the network knows"
        command = f"{base} --train all --lr 1e-4 --unfreeze-every 2 (or --train {half})"
        advice.append({"what": what, "why": why, "command": command})
    elif similar:
        what = "train the head alone; what is in front of it already tells the classes apart"
        advice.append({"what": what, "why": found, "command": f"{base} --augment none"})
    else:
        names = [n for b in blocks(model)[-3:] for n in b]
        what = "train the head with augmentation, then the last blocks with a small rate, and compare"
        why = f"{found}, with {fewest} to {facts['most']} pictures per class: neither hopeless nor enough by itself"
        advice.append({"what": what, "why": why, "command": f"{base} (then --train {names[0]} --lr 1e-4)"})
    if facts["most"] > 3 * fewest:
        why = f"the largest class has {facts['most']} pictures, the smallest {fewest}"
        advice.append({"what": "weigh the classes", "why": why, "command": f"{base} --class-weights balanced"})
    if facts["equal_files"]:
        one = facts["equal_files"][0]
        text = f"{len(facts['equal_files'])} pairs of equal files, as {one[0]} and {one[1]}"
        advice.append(
            {"what": "remove doubles", "why": f"{text}: they may lie in training and test set", "command": ""}
        )
    return advice


def _sample(pictures: Pictures, seed: int) -> Pictures:
    """At most 400 pictures, all classes alike."""
    import numpy as np

    per_class = max(2, _SAMPLE // pictures.num_classes)
    rows: list[int] = []
    for number in range(pictures.num_classes):
        members = np.flatnonzero(pictures.targets == number)
        rows += np.random.default_rng([seed, number]).permutation(members)[:per_class].tolist()
    return pictures.subset(sorted(rows))


def _features(model: Model, pictures: Pictures) -> tuple[np.ndarray, float]:
    """What the head reads, averaged over places, and the mean of the network's greatest score."""
    import numpy as np

    from netferry.api.writing import save
    from netferry.runtime.session import Session
    from netferry.runtime.training.examples import PictureExamples
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
    height, width, _ = whole.input_size
    size = (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
    examples = PictureExamples(pictures, whole.preprocessing[port.name], size)
    features: list[np.ndarray] = []
    greatest: list[float] = []
    with temporary_folder() as folder:
        save(whole, folder / "features.onnx", check="structure")
        session = Session(folder / "features.onnx", device="cpu")
        for start in range(0, len(pictures), 16):
            rows = list(range(start, min(start + 16, len(pictures))))
            made = session.run({port.name: examples.inputs(rows)[0]})
            feature = made[value.name or ""].reshape(len(rows), made[value.name or ""].shape[1], -1).mean(2)
            features.append(feature)
            scores = made[ending.output.name or ""].reshape(len(rows), -1)
            greatest += scores.max(1).tolist()
    certain = float(np.mean(greatest)) if ending.activation is not None else float("nan")
    return np.concatenate(features).astype(np.float64), certain


def _left_out_accuracy(features: np.ndarray, targets: np.ndarray, classes: int) -> float:
    """Accuracy of ridge regression on one-hot targets, each example left out in turn (closed form: PRESS)."""
    import numpy as np

    x = (features - features.mean(0)) / (features.std(0) + 1e-9)
    x = np.hstack([x / np.sqrt(x.shape[1]), np.ones((len(x), 1))])
    wanted = np.eye(classes)[targets]
    kernel = x @ x.T
    hat = kernel @ np.linalg.inv(kernel + 0.1 * np.eye(len(x)))
    left_out = wanted - (wanted - hat @ wanted) / (1 - np.diag(hat))[:, None]
    return float((left_out.argmax(1) == targets).mean())


def _equal_files(pictures: Pictures) -> list[list[str]]:
    """Pairs of files with equal content; sizes are compared first."""
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
