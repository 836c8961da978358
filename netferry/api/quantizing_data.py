"""The data that a network is calibrated on, and measured with before and after."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.api.reading import StrPath
from netferry.errors import UsageError, quoted

if TYPE_CHECKING:
    from netferry.runtime.data import Item
    from netferry.runtime.session import Session


class CalibrationData:
    """The caller's data as feeds and as a measure of accuracy."""

    def __init__(self, path: Path, calibrate: Any, evaluate: Any, output: str | None, batch: int) -> None:
        from netferry.runtime.feed import Feed
        from netferry.runtime.session import Session

        session = Session(path, "cpu")
        self.feed, self.inputs = Feed(session), [port.name for port in session.inputs]
        self.session, self.output, self.batch = session, output, batch
        self.calibrate = _files(calibrate)
        self.evaluate = self.calibrate if evaluate is None else _files(evaluate)
        self.asked = evaluate is not None
        self.taken = self.judged = 0
        self._truth: dict[str, int] | None = None

    @property
    def recipe_from(self) -> str | None:
        """Whose preprocessing pictures went through; None where the network takes no pictures."""
        return self.feed.recipe_from if self.feed.picture is not None else None

    def _items(self, spec: list[Any]) -> Iterable[Item]:
        from netferry.runtime.data import open_data

        return open_data(spec, inputs=self.inputs)

    def feeds(self, samples: int, seed: int) -> list[dict[str, np.ndarray]]:
        """Feeds of ``samples`` items drawn from all of the data."""
        if samples < 1:
            raise UsageError(f"at least one sample is needed, not {samples}")
        rng = np.random.default_rng(seed)
        chosen: list[Item] = []
        for number, item in enumerate(self._items(self.calibrate)):  # one pass, whatever the size of the data
            if number < samples:
                chosen.append(item)
            elif (place := int(rng.integers(number + 1))) < samples:
                chosen[place] = item
        self.taken = len(chosen)
        if not chosen:
            raise UsageError("the calibration data is empty", file=self.calibrate[0])
        tensors = [self.feed(item) for item in chosen]
        # one by one: histograms of batches that differ in size cannot be put together
        return [inputs for tensor in tensors for _, inputs in self.feed.batches([tensor])]

    def truth(self) -> bool:
        """Whether accuracy can be measured: every item of the data has a label that is a class of the network."""
        from netferry.runtime.predict import Classifier

        try:
            classifier = Classifier(self.session, output=self.output)
        except UsageError:
            if self.asked or self.output is not None:
                raise
            return False
        names = {item.label for item in self._items(self.evaluate)}
        known = {name: i for i, name in enumerate(classifier.labels or ())}
        found: dict[str, int] = {}
        for name in names:
            if name in known:
                found[name] = known[name]
            elif name is not None and name.isascii() and name.isdigit():
                found[name] = int(name)
        if len(found) == len(names) and names:
            self._truth = found
            return True
        if self.asked:
            wrong = sorted(str(n) for n in names if n is None or n not in found)
            what = "has items without a label" if None in names else f"has the label {quoted(wrong[0])}"
            raise UsageError(
                f"the data to evaluate on {what}, which is no class of the network",
                file=self.evaluate[0],
                hint="sub-folders (or labels) are called as the network's labels, or by the numbers of its classes",
            )
        return False

    def accuracy(self, session: Session) -> float:
        """Share of items whose first class is the right one."""
        from netferry.runtime.predict import Classifier

        truth = self._truth or {}
        classifier = Classifier(session, output=self.output)
        hits: list[bool] = []
        for loaded, scores in classifier.scored(self._items(self.evaluate), self.batch):
            if scores is not None and loaded.item.label is not None:
                hits.append(_first_class(scores) == truth[loaded.item.label])
        self.judged = len(hits)
        return float(np.mean(hits))


def _files(spec: StrPath | Sequence[StrPath]) -> list[Any]:
    """What the caller named; a folder without pictures but with arrays stands for these."""
    from netferry.runtime.data.files import is_picture

    out: list[Any] = []
    for one in [spec] if isinstance(spec, (str, Path)) else spec:
        folder = Path(one)
        inside = sorted(p for p in folder.rglob("*") if os.path.isfile(p)) if os.path.isdir(folder) else []
        arrays = [p for p in inside if p.suffix.lower() in (".npy", ".npz")]
        out.extend(arrays if arrays and not any(is_picture(p) for p in inside) else [one])
    return out


def _first_class(scores: np.ndarray) -> int:
    """The class; of a single score (of a sigmoid) it is 1 from a half on."""
    return int(scores.argmax()) if scores.size > 1 else int(scores[0] >= 0.5)
