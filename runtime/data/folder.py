"""Labelled pictures in folders, one sub-folder per class, and their split into training, validation and test."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from netferry.errors import InputError, UsageError, quoted
from netferry.runtime.data.files import in_folder

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid", "dev")
_TEST = ("test", "testing")


@dataclass(frozen=True)
class Pictures:
    """Paths of pictures with a target each; nothing is decoded before somebody asks for it.

    What ``targets`` holds depends on ``task``: ``classes`` one class index per picture (N, int64), ``labels`` a 0 or
    1 per picture and class (N x C, float32), ``values`` numbers to be predicted (N x C, float32).
    """

    root: Path
    files: tuple[Path, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    """names of the classes, of the labels, or of the values"""
    task: str = "classes"

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[Path, int]]:
        """Yield (path, class index) in order; for the other tasks the index is that of the row."""
        for row, file in enumerate(self.files):
            yield file, int(self.targets[row]) if self.task == "classes" else row

    @property
    def num_classes(self) -> int:
        """Number of classes (of labels, of values)."""
        return len(self.classes)

    @property
    def labels(self) -> list[str]:
        """The class name of every picture, in order.

        Raises:
            UsageError: pictures do not have one class each.
        """
        if self.task != "classes":
            raise UsageError(f"these pictures have no single label each, but {self.task}")
        return [self.classes[i] for i in self.targets.tolist()]

    def counts(self) -> dict[str, int]:
        """Number of pictures per class (per label that is set; per value all of them)."""
        if self.task == "classes":
            numbers = np.bincount(self.targets, minlength=len(self.classes))
        elif self.task == "labels":
            numbers = self.targets.sum(0)
        else:
            numbers = np.full(len(self.classes), len(self))
        return {name: int(n) for name, n in zip(self.classes, numbers, strict=True)}

    def subset(self, rows: Sequence[int] | np.ndarray) -> Pictures:
        """The pictures of some rows, with the same classes."""
        index = np.asarray(rows, np.int64)
        files = tuple(self.files[i] for i in index)
        return Pictures(self.root, files, self.targets[index], self.classes, self.task)

    def split(
        self, train: float = 0.7, validation: float = 0.15, *, seed: int = 0
    ) -> tuple[Pictures, Pictures, Pictures]:
        """Split at random into training, validation and test set; the test set is what remains.

        Every class is split by itself: of n pictures ``train * n`` and ``validation * n``, halves rounded up, go to
        the first two. A part whose share is above zero gets a picture of every class that has enough of them, first
        the training set, then the test set. Each set keeps the order of the files. A class's split does not depend
        on the other classes, and the same seed gives the same split.

        Args:
            train, validation: shares, each 0 to 1 and at most 1 in sum.
            seed: of the random choice.

        Raises:
            UsageError: the shares are no shares.
        """
        shares = [Fraction(str(train)), Fraction(str(validation))]
        shares.append(1 - shares[0] - shares[1])
        if min(shares) < 0:
            raise UsageError(f"train and validation are shares of at most 1 in sum, not {train} and {validation}")
        rows: tuple[list[int], list[int], list[int]] = ([], [], [])
        for name, members in self._strata():
            order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(members)
            first, second, _ = _part_sizes(len(members), shares)
            for part, taken in zip(rows, np.split(order, [first, first + second]), strict=True):
                part.extend(taken.tolist())
        made = [self.subset(sorted(part)) for part in rows]
        return made[0], made[1], made[2]

    def _strata(self) -> list[tuple[str, np.ndarray]]:
        """Rows that are split together: those of a class, of a combination of labels, or all."""
        if self.task == "classes":
            return [(name, np.flatnonzero(self.targets == i)) for i, name in enumerate(self.classes)]
        if self.task == "labels":
            keys = ["".join("1" if v else "0" for v in row) for row in self.targets]
            return [(key, np.array([i for i, k in enumerate(keys) if k == key])) for key in sorted(set(keys))]
        return [("", np.arange(len(self)))]


class ImageFolder(Pictures):
    """The pictures below the sub-folders of ``root``; a picture's class is the sub-folder's name.

    Classes are sorted by name, files by path; hidden folders and files are left out; folders inside a class belong
    to it. Sizes and kinds of pictures may be mixed, nothing is decoded.

    Args:
        root: the folder with one sub-folder per class.
        classes: the classes in the order wanted; by default all sub-folders, sorted.

    Raises:
        InputError: no such folder, no sub-folders, or one without pictures.
    """

    def __init__(self, root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        folder = Path(root)
        names = class_folders(folder) if classes is None else list(classes)
        if not names:
            raise InputError(
                "has no sub-folders",
                file=folder,
                hint="put the pictures of each class into a sub-folder that is called like the class",
            )
        files: list[Path] = []
        targets: list[int] = []
        for index, name in enumerate(names):
            found = [Path(item.id) for item in in_folder(folder / name)]
            files += found
            targets += [index] * len(found)
        super().__init__(folder, tuple(files), np.array(targets, np.int64), tuple(names))


def class_folders(folder: Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones left out.

    Raises:
        InputError: no such folder.
    """
    try:
        inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(getattr(error, "strerror", None) or str(error), file=folder) from None
    return [p.name for p in inside]


def ready_made(root: str | os.PathLike[str]) -> tuple[Pictures, Pictures | None, Pictures | None] | None:
    """The training, validation and test set of a folder that has them as sub-folders; None where it has not.

    The sub-folders are called ``train`` (or training), ``validation`` (val, valid, dev) and ``test`` (testing). All
    share the classes of the training set; a missing one of the last two is None.

    Raises:
        InputError: validation or test have a class that the training set has not.
    """
    folder = Path(root)
    there = {name.lower(): name for name in class_folders(folder)}
    found = [next((there[n] for n in names if n in there), None) for names in (_TRAIN, _VALIDATION, _TEST)]
    if found[0] is None or (found[1] is None and found[2] is None):
        return None
    train = ImageFolder(folder / found[0])
    others: list[Pictures | None] = []
    for name in found[1:]:
        if name is None:
            others.append(None)
            continue
        inside = class_folders(folder / name)
        if surplus := sorted(set(inside) - set(train.classes)):
            raise InputError(f"has class {quoted(surplus[0])}, which {found[0]} has not", file=folder / name)
        part = ImageFolder(folder / name, [c for c in train.classes if c in inside])
        renumber = np.array([train.classes.index(c) for c in part.classes], np.int64)
        others.append(Pictures(part.root, part.files, renumber[part.targets], train.classes))
    return train, others[0], others[1]


def _part_sizes(count: int, shares: Sequence[Fraction]) -> tuple[int, int, int]:
    """How many of ``count`` go to each of three parts."""
    first = min(_half_up(count * shares[0]), count)
    second = min(_half_up(count * shares[1]), count - first)
    sizes = [first, second, count - first - second]
    if not shares[2]:  # nothing remains where nothing should
        sizes[1], sizes[2] = sizes[1] + sizes[2], 0
    for part in [i for i in (0, 2, 1) if shares[i]]:  # never empty where avoidable
        largest = max(range(3), key=lambda i: sizes[i])
        if not sizes[part] and sizes[largest] > 1:
            sizes[largest] -= 1
            sizes[part] += 1
    return sizes[0], sizes[1], sizes[2]


def _half_up(number: Fraction) -> int:
    return int(number + Fraction(1, 2))
