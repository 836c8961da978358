"""``advise``: how to retrain a network on given pictures or sounds, computed from these and the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.advising_looks import equal_files, features, left_out_accuracy, lengths, sample_of
from netferry.api.datasets import pictures_of
from netferry.api.reading import StrPath, load
from netferry.errors import UsageError

if TYPE_CHECKING:
    from netferry.schemas.model import Model

FEW, MANY = 20, 500
"""pictures or sounds per class: below the first, features and a linear classifier are the better choice; from the
second on the network can learn anew what it sees"""
LONG = 30.0
"""seconds from which on a label is hardly that of every patch of a sound"""
SIMILAR = 0.9
"""share that a linear classifier on the features gets right (left out by turns) from which on the data are like those
the network knows"""


def advise(
    data: StrPath, source: StrPath | Model, *, weights: StrPath | None = None, seed: int = 0, **reading: Any
) -> dict[str, Any]:
    """Advise how to use a pretrained network for new pictures, or a sound network for new sounds.

    Args:
        data: a folder with one sub-folder per class (one with train, validation and test folders: the training set), or
            a CSV file that names pictures, or sounds, and their classes.
        source, weights, reading: the network; see :func:`netferry.load`.
        seed: of the sample of at most 400 items that is looked at.

    Returns:
        ``advice`` (each with ``what``, ``why`` and a ``command``), and the facts: ``kind`` (pictures or sounds), how
        many per class, the accuracy of a linear classifier on the head's input (ridge regression, each item left out in
        turn; of a sound the mean over its patches), the network's own certainty, equal files; of sounds the shortest,
        median and longest in ``seconds``.

    Raises:
        NetferryError: the network or the data cannot be read.
    """
    from netferry.api.retraining_inputs import assume_preprocessing, read_sounds

    items = pictures_of(data)
    model = load(source, weights, **reading) if isinstance(source, (str, Path)) else source.copy()
    heard = read_sounds(model)
    recipe = None if heard is None else heard[0]
    kind = "pictures" if recipe is None else "sounds"
    if items.task != "classes":
        raise UsageError(f"advise is for {kind} of one class each, these have {items.task}", file=data)
    if recipe is None:
        assume_preprocessing(model)
    counts = items.counts()
    sample = sample_of(items, seed)
    found, certainty = features(model, sample, recipe)
    facts = {
        "kind": kind, kind: len(items), "classes": counts, "fewest": min(counts.values()), "most": max(counts.values()),
        "linear_accuracy": left_out_accuracy(found, sample.targets, items.num_classes),
        "chance": max(counts.values()) / len(items), "certainty": certainty,
        "equal_files": equal_files(items), "looked_at": len(sample), "head": model.head().layer,
    }  # fmt: skip
    if recipe is not None:
        facts |= {"seconds": lengths(sample, recipe), "patch_seconds": recipe.least / recipe.sample_rate}
    named = "MODEL" if not isinstance(source, (str, Path)) else str(source) + (f" -w {weights}" if weights else "")
    return {**facts, "advice": _advice(facts, model, str(data), named)}


def _advice(facts: dict[str, Any], model: Model, data: str, network: str) -> list[dict[str, str]]:
    from netferry.schemas.learning import blocks

    fewest, linear, kind = facts["fewest"], facts["linear_accuracy"], facts["kind"]
    similar = linear >= SIMILAR
    base = f"netferry retrain {network} {data} -o mine.onnx"
    found = f"a linear classifier on the features in front of {facts['head']} gets {linear:.0%} right"
    advice: list[dict[str, str]] = []
    if fewest < FEW:
        what = "take the network's features as they are and train a linear classifier (SVM) on them"
        why = f"{fewest} {kind} in the smallest class, fewer than {FEW}: too few to train layers on; {found}"
        advice.append({"what": what, "why": why, "command": f"netferry train-head {network} {data} -o mine.onnx"})
    elif fewest >= MANY and not similar:
        half = blocks(model)[len(blocks(model)) // 2][0]
        what = "unfreeze deeper: train everything, or from the middle of the network on"
        why = f"{fewest} {kind} and more per class, and {found}: the data are many and unlike what the network knows"
        command = f"{base} --train all --lr 1e-4 --unfreeze-every 2 (or --train {half})"
        advice.append({"what": what, "why": why, "command": command})
    elif similar:
        what = "train the head alone; what is in front of it already tells the classes apart"
        advice.append({"what": what, "why": found, "command": f"{base} --augment none"})
    else:
        names = [n for b in blocks(model)[-3:] for n in b]
        what = "train the head with augmentation, then the last blocks with a small rate, and compare"
        why = f"{found}, with {fewest} to {facts['most']} {kind} per class: neither hopeless nor enough by itself"
        advice.append({"what": what, "why": why, "command": f"{base} (then --train {names[0]} --lr 1e-4)"})
    if facts["most"] > 3 * fewest:
        why = f"the largest class has {facts['most']} {kind}, the smallest {fewest}"
        advice.append({"what": "weigh the classes", "why": why, "command": f"{base} --class-weights balanced"})
    if facts["equal_files"]:
        one = facts["equal_files"][0]
        text = f"{len(facts['equal_files'])} pairs of equal files, as {one[0]} and {one[1]}"
        advice.append(
            {"what": "remove doubles", "why": f"{text}: they may lie in training and test set", "command": ""}
        )
    return advice + _about_lengths(facts)


def _about_lengths(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What to do about sounds that are too short, or so long that their label is hardly that of every patch."""
    if "seconds" not in facts:
        return []
    median, patch = facts["seconds"]["median"], facts["patch_seconds"]
    if median < patch / 2:
        what = "record longer sounds, or lay several behind each other"
        why = (
            f"half of the sounds are shorter than {median:.2g} s; the network hears {patch:.2g} s, the rest is silence"
        )
    elif median > LONG:
        what = "cut the sounds to the parts that the label is about"
        why = f"half of the sounds are longer than {median:.0f} s; each patch of {patch:.2g} s learns the whole's label"
    else:
        return []
    return [{"what": what, "why": why, "command": ""}]
