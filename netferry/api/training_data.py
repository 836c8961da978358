"""What ``retrain`` learns from: pictures in folders or a CSV file, arrays; split into three sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath
from netferry.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data.folder import Pictures
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.examples import Examples
    from netferry.runtime.training.sounds import SoundAugment, SoundExamples
    from netferry.schemas.model import Model
    from netferry.schemas.sound import SoundRecipe

PARTS = ("training", "validation", "test")


@dataclass
class DataSets:
    """Training, validation and test set of one source; ``pictures`` or ``arrays``, never both."""

    name: str
    task: str
    classes: tuple[str, ...]
    pictures: tuple[Pictures, ...] = ()
    arrays: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    sound: SoundRecipe | None = None
    """how patches are made, where the ``pictures`` are sounds"""
    skipped: list[dict[str, str]] = field(default_factory=list)
    """files that could not be read, with the reason"""

    def targets(self, part: int) -> np.ndarray:
        """Targets of the training (0), validation (1) or test set (2)."""
        return self.pictures[part].targets if self.pictures else self.arrays[part][1]

    def split(self) -> dict[str, dict[str, int]]:
        """Number of examples per class (per label that is set) of each set."""
        import numpy as np

        out: dict[str, dict[str, int]] = {}
        for part, name in enumerate(PARTS):
            targets = self.targets(part)
            if self.task == "classes":
                counts = np.bincount(targets, minlength=len(self.classes))
            elif self.task == "labels":
                counts = targets.sum(0)
            else:
                counts = np.full(len(self.classes), len(targets))
            out[name] = {c: int(n) for c, n in zip(self.classes, counts, strict=True)}
        return out

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and targets: the same data, split alike, give the same."""
        digest = hashlib.sha256()
        for part in range(3):
            if self.pictures:
                for file in self.pictures[part].files:
                    digest.update(f"{file}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            else:
                digest.update(self.arrays[part][0].tobytes())
            digest.update(self.targets(part).tobytes())
        return digest.hexdigest()

    def sounds(self, part: int, model: Model, augment: Any = None, seed: int = 0) -> SoundExamples:
        """One of the sets as patches of sounds."""
        from netferry.runtime.training.sounds import SoundExamples

        assert self.sound is not None
        inner = [d for d in (model.inputs[0].shape or ())[1:] if isinstance(d, int)]
        return SoundExamples(self.pictures[part], self.sound, inner, augment=augment, seed=seed)

    def examples(self, part: int, model: Model, augment: Augment | SoundAugment | None, seed: int) -> Examples:
        """One of the sets as the network takes it."""
        from netferry.runtime.training.examples import ArrayExamples, PictureExamples
        from netferry.runtime.training.sounds import SoundAugment

        if self.sound is not None:
            return self.sounds(part, model, augment, seed)
        port = next(i for i in model.inputs)
        import numpy as np

        dtype = np.dtype({"float": "float32", "double": "float64"}.get(port.dtype, port.dtype))
        if not self.pictures:
            x, y = self.arrays[part]
            return ArrayExamples([x.astype(dtype, copy=False)], y)
        recipe = model.preprocessing[port.name]
        height, width, _ = model.input_size
        size = (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
        assert not isinstance(augment, SoundAugment)
        return PictureExamples(self.pictures[part], recipe, size, augment=augment, seed=seed, dtype=dtype)


def open_training_data(
    data: StrPath | Pictures | Sequence[Pictures],
    shares: tuple[float, float],
    seed: int,
    task: str | None,
    on_error: str = "fail",
    sound: SoundRecipe | None = None,
) -> DataSets:
    """Open the data and split it, where it is not split already.

    Args:
        data: a folder with one sub-folder per class, or with train, validation and test folders; a CSV file; an .npz
            file with x and y; pictures; or three sets of pictures.
        shares: of training and validation.
        seed: of the split.
        task: classes, labels or values; by default what the data look like.
        on_error: ``skip`` leaves out files that cannot be read, before the split; with ``fail`` the files of the test
            set, which nobody reads before the end, are tried now.
        sound: how sounds are read, where the network hears.

    Raises:
        UsageError: no such task; sets without examples; ``on_error`` is neither.
        InputError: a file cannot be read.
    """
    from netferry.runtime.data.checked import all_readable, readable
    from netferry.runtime.data.folder import ImageFolder, Pictures, ready_made
    from netferry.runtime.data.table import labels_from_folders, read_table
    from netferry.runtime.decoding import load_picture
    from netferry.runtime.sounds import read_sound
    from netferry.runtime.training.examples import read_arrays

    if task not in (None, "classes", "labels", "values"):
        raise UsageError(f"a task is classes, labels or values, not {task!r}")
    if isinstance(data, (str, Path)):
        path = Path(data)
        if path.suffix.lower() == ".npz":
            return _of_arrays(path, *read_arrays(path), shares, seed, task)
        if path.suffix.lower() == ".csv":
            data = read_table(path, task)
        elif task == "labels":
            data = labels_from_folders(path)
        else:
            made = ready_made(path)
            data = ImageFolder(path) if made is None else _completed(made, shares, seed)
    skipped: list[dict[str, str]] = []
    read: Callable[[Path], Any] = load_picture if sound is None else partial(read_sound, sample_rate=sound.sample_rate)
    if on_error not in ("fail", "skip"):
        raise UsageError(f"on_error is fail or skip, not {on_error!r}")
    if isinstance(data, Pictures):
        if on_error == "skip":
            data, skipped = readable(data, on_error, read=read)
        data = data.split(*shares, seed=seed)
    elif on_error == "skip":
        data, skipped = all_readable(data, on_error, read=read)
    sets = tuple(data)
    if len(sets) != 3:
        raise UsageError(f"three sets are needed (training, validation, test), not {len(sets)}")
    first = sets[0]
    if any(s.classes != first.classes or s.task != first.task for s in sets):
        raise UsageError("the three sets differ in their classes")
    if not len(first):
        raise UsageError("the training set is empty")
    if task is not None and task != first.task:
        raise UsageError(f"the data have {first.task}, not {task}")
    if on_error == "fail":
        readable(sets[2], read=read)
    name = first.root.name or str(first.root)
    return DataSets(name, first.task, first.classes, pictures=sets, sound=sound, skipped=skipped)


def _completed(made: Any, shares: tuple[float, float], seed: int) -> tuple[Pictures, ...]:
    """Ready-made sets; a missing validation set is taken from the training set, a missing test set stays empty."""
    train, validation, test = made
    if validation is None:
        train, validation, _ = train.split(1 - shares[1], shares[1], seed=seed)
    return train, validation, train.subset([]) if test is None else test


def _of_arrays(
    path: Path, x: np.ndarray, y: np.ndarray, names: tuple[str, ...] | None, shares: tuple[float, float], seed: int,
    task: str | None,
) -> DataSets:  # fmt: skip
    import numpy as np

    from netferry.runtime.data.folder import Pictures

    if task is None:
        whole = y.dtype.kind in "iub"
        task = (
            "classes" if whole and y.ndim == 1 else "labels" if np.isin(y, (0, 1)).all() and y.ndim == 2 else "values"
        )
    if task == "classes":
        if y.ndim != 1 or y.dtype.kind == "f" or y.min() < 0 or y.max() > 1_000_000:
            raise UsageError("y holds no class numbers (whole, from 0)", file=path)
        targets, count = y.astype(np.int64), int(y.max()) + 1
    else:
        targets = y.astype(np.float32).reshape(len(y), -1)
        count = targets.shape[1]
    classes = names or tuple(f"{'value' if task == 'values' else 'class'} {i}" for i in range(count))
    if len(classes) < count:
        raise UsageError(f"{len(classes)} classes, but y needs {count}", file=path)
    # the split of pictures, on numbers in place of files
    numbered = Pictures(path.parent, tuple(Path(str(i)) for i in range(len(y))), targets, classes, task)
    parts = [[int(f.name) for f in part.files] for part in numbered.split(*shares, seed=seed)]
    return DataSets(path.stem, task, classes, arrays=tuple((x[rows], targets[rows]) for rows in parts))
