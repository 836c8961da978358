"""The catalogue: what is known of each network of the zoo, and the class names that the package carries."""

from __future__ import annotations

import tomllib
import urllib.parse
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from netferry.errors import UsageError, quoted


@dataclass(frozen=True)
class Entry:
    """One network, as it is published in one format.

    Attributes:
        input: height, width, channels (of a sound network frames, bands and perhaps 1).
        parameters: learnables; for Keras networks with the running statistics, as Keras counts.
        depth: longest path of layers with a kernel.
        top1: published single-crop accuracy on ImageNet, in percent.
        labels: which list of class names.
        url: where the weights are published; None where no address serves them.
        also: further addresses of the same file.
        file: what the file is called, where the address does not say.
        bytes, checksum: of the published weights, where somebody publishes them; ``checksum`` is ``algorithm:hex``.
        preprocessing: fields of the recipe for pictures.
        front_end: what makes a sound network's patches of a waveform, see :data:`netferry.schemas.sound.RECIPES`.
        by_hand: why no address is here, and how a person gets the weights.
        variant: the name of this publication: the format, or its key in ``others``.
        definition: the name of the definition that the package carries.
        others: the same network as published in other formats.
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
    also: tuple[str, ...] = ()
    file: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    checksum_from: str | None = None
    published_depth: int | None = None
    published_parameters: int | None = None
    preprocessing: dict[str, Any] | None = None
    front_end: str | None = None
    by_hand: str = ""
    notes: str = ""
    variant: str = ""
    definition: str = ""
    others: dict[str, Entry] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[Entry, ...]:
        """All publications of the network; ``build`` takes the first."""
        return (self, *self.others.values())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the weights are, in the order to try."""
        return self.also if self.url is None else (self.url, *self.also)

    @property
    def file_name(self) -> str:
        """What the weights are called in the cache, and in folders that mirror them."""
        name = self.file or urllib.parse.urlsplit(self.url or "").path.rsplit("/", 1)[-1] or f"{self.name}.weights"
        return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "weights"

    @property
    def way_by_hand(self) -> str:
        """How a person gets the weights in, where the machine has no network or no address serves them."""
        why = f"{self.by_hand}. " if self.url is None else ""
        return f"{why}Fetch the file from {self.url or self.home}, then: netferry zoo pull {self.name} --file FILE"

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "title": self.title,
            "task": self.task,
            "input": list(self.input),
            "depth": self.depth,
            "published_depth": self.published_depth or self.depth,
            "top1": self.top1,
            "labels": self.labels,
            "classes": None if self.labels is None else len(class_names(self.labels)),
            "front_end": self.front_end,
            **self.published(),
            "variants": [each.published() for each in self.variants],
            "by_hand": self.way_by_hand,
            "notes": self.notes,
        }

    def published(self) -> dict[str, Any]:
        """What is known of this publication of the network."""
        return {
            "variant": self.variant,
            "format": self.format,
            "parameters": self.parameters,
            "published_parameters": self.published_parameters or self.parameters,
            "size_bytes": self.parameters * 4 if self.bytes is None else self.bytes,
            "preprocessing": self.preprocessing,
            "home": self.home,
            "url": self.url,
            "also": list(self.also),
            "checksum": self.checksum,
            "checksum_from": self.checksum_from
            or "nobody publishes one: the server's digest, reading the file, and what was pulled first stand in",
            "licence": self.licence,
        }


@cache
def entries() -> dict[str, Entry]:
    """Return all networks by name, in the order of the catalogue."""
    text = files("netferry.zoo").joinpath("catalogue.toml").read_text("utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: _entry(name, row) for name, row in rows.items()}


def _entry(name: str, row: dict[str, Any]) -> Entry:
    variants: dict[str, dict[str, Any]] = row.pop("variants", {})
    known = {**row, "name": name, "input": tuple(row["input"]), "also": tuple(row.get("also", ()))}
    main = Entry(**known, variant=row["format"], definition=name)
    theirs = {"url": None, "also": (), "file": None, "bytes": None, "checksum": None, "checksum_from": None}
    others = {
        key: replace(main, **{**theirs, **other, "variant": key, "definition": f"{name}-{key}"})
        for key, other in variants.items()
    }
    return replace(main, others=others)


def entry(name: str, variant: str | None = None) -> Entry:
    """Return one network.

    Args:
        variant: which of its publications; the first by default.

    Raises:
        UsageError: there is none of that name.
    """
    found = entries().get(name.lower())
    if found is None:
        raise UsageError(f"the zoo has no network {quoted(name)}", hint=f"there are {', '.join(entries())}")
    if variant is None:
        return found
    for each in found.variants:
        if each.variant == variant.lower():
            return each
    known = ", ".join(each.variant for each in found.variants)
    raise UsageError(f"{found.name} has no variant {quoted(variant)}", hint=f"there is {known}")


@cache
def class_names(which: str) -> tuple[str, ...]:
    """Return a list of class names: imagenet, imagenet-darknet, places365 or audioset."""
    text = files("netferry.zoo").joinpath("labels", f"{which}.txt").read_text("utf-8")
    return tuple(text.splitlines())
