"""The catalogue: what is known of each network of the zoo, and the class names that the package carries."""

from __future__ import annotations

import difflib
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
        postprocess: the published file of what comes behind the network (VGGish's PCA).
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
    postprocess: Entry | None = None

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
            "postprocess": None if self.postprocess is None else self.postprocess.file_facts(),
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
            **self.file_facts(),
            "licence": self.licence,
        }

    def file_facts(self) -> dict[str, Any]:
        """What is known of the file."""
        return {
            "url": self.url,
            "also": list(self.also),
            "checksum": self.checksum,
            "checksum_from": self.checksum_from
            or "nobody publishes one: the server's digest, reading the file, and what was pulled first stand in",
        }


@cache
def entries() -> dict[str, Entry]:
    """Return all networks by name, in the order of the catalogue."""
    text = files("netferry.zoo").joinpath("catalogue.toml").read_text("utf-8")
    rows: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: _entry(name, row) for name, row in rows.items()}


def _entry(name: str, row: dict[str, Any]) -> Entry:
    variants: dict[str, dict[str, Any]] = row.pop("variants", {})
    behind: dict[str, Any] | None = row.pop("postprocess", None)
    known = {**row, "name": name, "input": tuple(row["input"]), "also": tuple(row.get("also", ()))}
    main = Entry(**known, variant=row["format"], definition=name)
    theirs = {"url": None, "also": (), "file": None, "bytes": None, "checksum": None, "checksum_from": None}
    others = {
        key: replace(main, **{**theirs, **other, "variant": key, "definition": f"{name}-{key}"})
        for key, other in variants.items()
    }
    second = None if behind is None else replace(main, **{**theirs, **behind, "variant": "postprocess"})
    return replace(main, others=others, postprocess=second)


def _plain(name: str) -> str:
    """A network's name without case and marks: ResNet-50 is resnet50."""
    return "".join(c for c in name.lower() if c.isalnum())


def entry(name: str, variant: str | None = None) -> Entry:
    """Return one network.

    Args:
        name: as in the catalogue; case, hyphens and the like do not matter.
        variant: which of its publications; the first by default.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((each for key, each in entries().items() if _plain(key) == _plain(name)), None)
    if found is None:
        near = difflib.get_close_matches(_plain(name), {_plain(key): key for key in entries()}, 3, 0.7)
        close = [key for key in entries() if _plain(key) in near]
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(entries())}"
        raise UsageError(f"the zoo has no network {quoted(name)}", hint=hint)
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
