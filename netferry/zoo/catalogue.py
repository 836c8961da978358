"""The catalogue: what is known of each network of the zoo, and the class names that the package carries."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from netferry.errors import UsageError, quoted


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        input: height, width, channels (of a sound network frames, bands and perhaps 1).
        parameters: learnables; for Keras networks with the running statistics, as Keras counts.
        depth: longest path of layers with a kernel.
        top1: published single-crop accuracy on ImageNet, in percent.
        labels: which list of class names.
        url: where the weights are published; None where no address serves them.
        bytes, checksum: of the published weights, where somebody publishes them; ``checksum`` is ``algorithm:hex``.
        preprocessing: fields of the recipe for pictures.
        front_end: what makes a sound network's patches of a waveform, see :data:`netferry.schemas.sound.RECIPES`.
        by_hand: why no address is here, and how a person gets the weights.
    """

    name: str
    title: str
    format: str
    input: tuple[int, ...]
    parameters: int
    depth: int
    home: str
    licence: str
    task: str = "classification"
    top1: float | None = None
    labels: str | None = None
    url: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    checksum_from: str | None = None
    published_depth: int | None = None
    published_parameters: int | None = None
    preprocessing: dict[str, Any] | None = None
    front_end: str | None = None
    by_hand: str = ""
    notes: str = ""

    @property
    def way_by_hand(self) -> str:
        """How a person gets the weights in, where the machine has no network or no address serves them."""
        why = f"{self.by_hand}. " if self.url is None else ""
        return f"{why}Fetch the file from {self.url or self.home}, then: netferry zoo pull {self.name} --file FILE"

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        size = self.parameters * 4 if self.bytes is None else self.bytes
        return {
            "name": self.name,
            "title": self.title,
            "task": self.task,
            "format": self.format,
            "input": list(self.input),
            "parameters": self.parameters,
            "published_parameters": self.published_parameters or self.parameters,
            "depth": self.depth,
            "published_depth": self.published_depth or self.depth,
            "size_bytes": size,
            "top1": self.top1,
            "labels": self.labels,
            "classes": None if self.labels is None else len(class_names(self.labels)),
            "preprocessing": self.preprocessing,
            "front_end": self.front_end,
            "home": self.home,
            "url": self.url,
            "checksum": self.checksum,
            "checksum_from": self.checksum_from
            or "nobody publishes one: the weights count when the network reads them",
            "by_hand": self.way_by_hand,
            "licence": self.licence,
            "notes": self.notes,
        }


@cache
def entries() -> dict[str, Entry]:
    """Return all networks by name, in the order of the catalogue."""
    text = files("netferry.zoo").joinpath("catalogue.toml").read_text("utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: Entry(**{**row, "name": name, "input": tuple(row["input"])}) for name, row in rows.items()}


def entry(name: str) -> Entry:
    """Return one network.

    Raises:
        UsageError: there is none of that name.
    """
    found = entries().get(name.lower())
    if found is None:
        raise UsageError(f"the zoo has no network {quoted(name)}", hint=f"there are {', '.join(entries())}")
    return found


@cache
def class_names(which: str) -> tuple[str, ...]:
    """Return a list of class names: imagenet, imagenet-darknet, places365 or audioset."""
    text = files("netferry.zoo").joinpath("labels", f"{which}.txt").read_text("utf-8")
    return tuple(text.splitlines())
