"""Reading of ``.cfg`` files: sections of ``key=value`` lines, as Darknet's own parser takes them.

Rules: parser.c and option_list.c of pjreddie/darknet. All white space in a line goes, also inside; lines that begin
with ``#`` or ``;`` are comments; of two equal keys the first counts; numbers end where C's atoi and atof end them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, quoted

T = TypeVar("T")
_INT = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INT_RANGE = 2**31
_LARGEST = 3.4028234663852886e38


@dataclass
class Section:
    """One ``[section]`` with its settings, and typed reading of them: each getter marks its key as read.

    Attributes:
        type: the name between the brackets.
        line: where it begins, from 1.
        name: what errors call it; the network gives layers theirs.
    """

    type: str
    line: int
    settings: dict[str, str] = field(default_factory=dict)
    name: str = ""
    read: set[str] = field(default_factory=set)

    def _text(self, key: str) -> str | None:
        self.read.add(key)
        return self.settings.get(key)

    def _fail(self, key: str, wanted: str) -> MalformedFile:
        return MalformedFile(f"{key}={quoted(self.settings[key])[1:-1]} is not {wanted}", layer=self.name or self.type)

    def has(self, key: str) -> bool:
        """Whether the cfg gives the key (does not count as reading it)."""
        return key in self.settings

    def int(self, key: str, default: int, *, least: int | None = None) -> int:
        """A whole number of 32 bits."""
        text = self._text(key)
        if text is None:
            return default
        value = self._one(key, text, _INT, int, "a whole number")
        if not -_INT_RANGE <= value < _INT_RANGE:
            raise self._fail(key, "a number of 32 bits")
        if least is not None and value < least:
            raise self._fail(key, f"at least {least}")
        return value

    def ints(self, key: str) -> list[int]:
        """Whole numbers with commas between; empty where left out."""
        text = self._text(key)
        if text is None:
            return []
        values = [self._one(key, part, _INT, int, "whole numbers with commas") for part in _parts(text)]
        if not all(-_INT_RANGE <= v < _INT_RANGE for v in values):
            raise self._fail(key, "numbers of 32 bits")
        return values

    def float(self, key: str, default: float) -> float:
        """A number that float32 can hold."""
        text = self._text(key)
        if text is None:
            return default
        return self._bounded(key, self._one(key, text, _FLOAT, float, "a number"))

    def floats(self, key: str) -> list[float]:
        """Numbers with commas between; empty where left out."""
        text = self._text(key)
        if text is None:
            return []
        return [self._bounded(key, self._one(key, part, _FLOAT, float, "numbers with commas")) for part in _parts(text)]

    def str(self, key: str, default: str) -> str:
        """A word."""
        text = self._text(key)
        return default if text is None else text

    def ignore(self, *keys: str) -> None:
        """Mark keys as read on purpose although they change nothing here."""
        self.read.update(keys)

    def unread(self) -> list[str]:
        """Keys that nobody asked for and that could matter."""
        return [key for key in self.settings if key not in self.read and key not in TRAINING_ONLY]

    def _one(self, key: str, text: str, form: re.Pattern[str], make: Callable[[str], T], wanted: str) -> T:
        found = form.match(text)
        if found is None or len(found[0]) > 400:
            raise self._fail(key, wanted)
        return make(found[0])

    def _bounded(self, key: str, value: float) -> float:
        if abs(value) > _LARGEST:
            raise self._fail(key, "a number that float32 can hold")
        return value


def _parts(text: str) -> Iterator[str]:
    """The pieces between commas, up to a remark; a comma at the end adds nothing."""
    pieces = text.partition("#")[0].split(",")
    while pieces and not pieces[-1]:
        pieces.pop()
    return iter(pieces)


TRAINING_ONLY = frozenset(
    {
        *("learning_rate", "learning_rate_scale", "stopbackward", "onlyforward", "smooth", "clip", "adam", "jitter"),
        *("rescore", "ignore_thresh", "truth_thresh", "random", "max", "max_boxes", "bias_match", "thresh", "absolute"),
        *("coord_scale", "object_scale", "noobject_scale", "mask_scale", "class_scale", "forced", "iou_loss"),
        *("iou_normalizer", "obj_normalizer", "cls_normalizer", "iou_thresh", "nms_kind", "beta_nms", "max_delta"),
        *("label_smooth_eps", "counters_per_class", "focal_loss", "train_only_bn", "resize", "noloss", "B1"),
        *(
            "B2",
            "eps",
            "show_details",
            "stream",
            "wait_stream",
            "objectness_smooth",
            "delta_normalizer",
            "iou_thresh_kind",
        ),
        *("classfix", "cls_normalizer", "grad_centr"),
    }
)
"""Keys that never change what a layer computes when it is run."""


def parse(text: str, limits: Limits) -> list[Section]:
    """Return the sections of a cfg.

    Raises:
        MalformedFile: a line that is neither section, setting nor comment; a setting before the first section.
        LimitExceeded: more sections than allowed.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = re.sub(r"[ \t\v\f\ufeff]", "", raw)
        if not line or line[0] in "#;\0":
            continue
        if line[0] == "[":
            name, closing, _ = line[1:].partition("]")
            if not closing or not name or len(name) > 100:
                raise MalformedFile(f"a section is [name], not {quoted(line, 60)}", line=number, column=1)
            sections.append(Section(name, number))
            if len(sections) > limits.layers:
                raise LimitExceeded(f"more than {limits.layers} sections (limit layers)")
            continue
        key, equals, value = line.partition("=")
        if not equals or not key:
            raise MalformedFile(f"a setting is key=value, not {quoted(line, 60)}", line=number, column=1)
        if not sections:
            raise MalformedFile("a setting before the first section", line=number, column=1)
        if value:
            sections[-1].settings.setdefault(key, value)
    return sections
