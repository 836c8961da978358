"""Objects on pictures: networks that give boxes, scores and classes (Darknet's with ``--decode-boxes``).

For serving: imports numpy, Pillow and onnxruntime, never onnx, onnx_ir nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netferry.errors import CheckFailed, NetferryError, UsageError
from netferry.runtime.data import Data, Item, load_ahead
from netferry.runtime.decoding import load_picture
from netferry.runtime.feed import Feed, Tensors
from netferry.runtime.ports import LABELS_KEY, metadata_of
from netferry.runtime.preprocess import on_picture
from netferry.runtime.session import Session

OUTPUTS = ("boxes", "scores", "classes", "images")


def is_detector(session: Session) -> bool:
    """Whether a network gives boxes (K x 4, parts of its input), their scores, classes and places in the batch."""
    ports = {port.name: port for port in session.outputs}
    return set(OUTPUTS) <= set(ports) and [len(ports[n].shape) for n in OUTPUTS] == [2, 1, 1, 1]


@dataclass(frozen=True)
class Found:
    """One object."""

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]
    """left, top, right, bottom in pixels of the picture"""


@dataclass(frozen=True)
class Detection:
    """The objects of one picture, the surest first; or why there are none."""

    item: str
    objects: tuple[Found, ...] = ()
    size: tuple[int, int] = (0, 0)
    """height and width of the picture"""
    error: NetferryError | None = None
    source: Any = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        if self.error is not None:
            return {"item": self.item, "error": self.error.as_dict()}
        rows = [{"label": f.label, "class": f.index, "score": f.score, "box": list(f.box)} for f in self.objects]
        return {"item": self.item, "size": list(self.size), "objects": rows}


class Detector:
    """A session that finds objects, with what makes pictures its input. May be shared between threads.

    Args:
        session: see :func:`is_detector`.
        labels: class names, instead of those that the model carries.
        changes: fields of its preprocessing to change.
    """

    def __init__(
        self, session: Session, labels: Sequence[str] | None = None, changes: dict[str, Any] | None = None
    ) -> None:
        self.session = session
        self.feed = Feed(session, changes=changes)
        known = metadata_of(session, LABELS_KEY).get("classes")
        carried = [str(v) for v in known] if isinstance(known, list) else None
        self.labels = carried if labels is None else list(labels)

    def detected(
        self, items: Data, batch: int = 16, *, on_error: str = "fail", workers: int | None = None
    ) -> Iterator[Detection]:
        """Yield the objects of each picture, in order.

        Raises:
            InputError, LimitExceeded: a picture cannot be read (``on_error="fail"``).
            UsageError: fewer labels than classes.
            CheckFailed: the network gives no boxes.
        """
        for chunk in load_ahead(items, self._loaded, self.feed.batch or batch, workers=workers, on_error=on_error):
            readable = [loaded for loaded in chunk if loaded.value is not None]
            values = [loaded.value[1] for loaded in readable if loaded.value is not None]
            rows: list[list[tuple[np.ndarray, float, int]]] = [[] for _ in readable]
            for members, inputs in self.feed.batches(values):
                made = self.session.run(inputs, list(OUTPUTS))
                self._check(made)
                for box, score, kind, image in zip(*(made[n] for n in OUTPUTS), strict=True):
                    if image < len(members):  # the rest fills a fixed batch up
                        rows[members[image]].append((box, float(score), int(kind)))
            found = iter(rows)
            for loaded in chunk:
                if loaded.value is None:
                    yield Detection(loaded.item.id, error=loaded.error, source=loaded.item.source)
                else:
                    objects = self._objects(next(found), loaded.value[0])
                    yield Detection(loaded.item.id, objects, loaded.value[0], source=loaded.item.source)

    def _loaded(self, item: Item) -> tuple[tuple[int, int], Tensors]:
        """The picture's size, and what the network gets."""
        if item.ready or isinstance(item.source, dict):
            height, width = (side or 1 for side in self.feed.size)
            return (height, width), self.feed(item)
        try:
            bands = load_picture(item.source)
        except NetferryError as error:
            raise error.at(file=item.id) from error.__cause__
        width, height = bands[0].size
        picture = bands[0] if bands[0].mode != "F" else np.stack([np.asarray(b) for b in bands], -1)
        return (height, width), self.feed(replace(item, source=picture))

    def _objects(self, rows: list[tuple[np.ndarray, float, int]], size: tuple[int, int]) -> tuple[Found, ...]:
        if not rows:
            return ()
        boxes = on_picture(np.array([box for box, _, _ in rows]), self.feed.recipe, self.feed.size, size)
        found = [
            Found(self._name(kind), kind, score, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
            for box, (_, score, kind) in zip(boxes, rows, strict=True)
        ]
        return tuple(sorted(found, key=lambda f: -f.score))

    def _name(self, kind: int) -> str:
        if self.labels is None:
            return f"class {kind}"
        if kind >= len(self.labels):
            raise UsageError(f"there are {len(self.labels)} labels, the network found class {kind}")
        return self.labels[kind]

    def _check(self, made: Tensors) -> None:
        boxes = made["boxes"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all() or (made["classes"] < 0).any():
            raise CheckFailed(f"the network gives no boxes: {list(boxes.shape)}", file=self.session.file)
