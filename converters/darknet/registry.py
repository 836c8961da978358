"""The layer readers' side of the Darknet importer: the registry, and what a reader gets to see of a section.

A reader is one function::

    @layer("avgpool", "avg")
    def avgpool(b: Builder, l: Layer, x: ir.Value) -> ir.Value: ...

It gets the builder (already stamping nodes with the layer's name), the layer, and the value of the section before; it
returns the section's output. Readers take their parameters in the order in which the weights file stores them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from netferry.converters.darknet.cfg import Section
from netferry.converters.darknet.weights import WeightsFile
from netferry.converters.options import Limits
from netferry.converters.registry import Registry
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import Note
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.tensors import uninitialised_tensor

Reader = Callable[..., ir.Value]
registry: Registry[Reader] = Registry("darknet")
layer = registry.layer

MOST_ELEMENTS = 2**31 - 1
"""Darknet counts what a layer holds in an int."""
MOST_CONSTANT = 2**24
"""Elements of a constant that a reader may make up from settings alone."""


@dataclass
class Head:
    """A detection head: what :mod:`netferry.converters.darknet.boxes` needs to turn its output into boxes.

    ``boxes(b)`` gives corners (N, M, 4) as parts of the picture and scores (N, classes, M);
    ``refusal`` says why it cannot.
    """

    layer: str
    classes: int
    boxes: Callable[[Builder], tuple[ir.Value, ir.Value]]
    refusal: str = ""


@dataclass
class Layer:
    """One section behind ``[net]``, as its reader sees it."""

    index: int
    section: Section
    net: Section
    values: list[ir.Value]
    """what the sections before gave, by index"""
    weights: WeightsFile | None
    limits: Limits
    notes: list[Note] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    folder: ModelFolder | None = None
    """where the cfg lies, for files that it names"""

    @property
    def name(self) -> str:
        """``layer_<index>``: sections have no names."""
        return self.section.name

    @property
    def type(self) -> str:
        """The section's name."""
        return self.section.type

    def note(self, kind: str, message: str) -> None:
        """Record something for the report."""
        self.notes.append(Note(kind, message, self.name))

    def fail(self, message: str) -> MalformedFile:
        """An error of this layer, to be raised."""
        return MalformedFile(message, layer=self.name)

    def unsupported(self, message: str) -> UnsupportedOption:
        """An error of this layer, to be raised."""
        return UnsupportedOption(message, layer=self.name)

    # values ----------------------------------------------------------------------------------------------------

    def image(self, x: ir.Value) -> tuple[int, int, int]:
        """Return channels, height and width of a value that must be an image.

        Raises:
            MalformedFile: it is a vector.
        """
        shape = shape_of(x)
        if len(shape) != 4:
            raise self.fail("the section before must give an image, it gives a vector")
        _, c, h, w = (d if isinstance(d, int) else 0 for d in shape)
        return c, h, w

    def features(self, x: ir.Value) -> int:
        """Return how many numbers a value has per item."""
        shape = shape_of(x)
        start = 2 if len(shape) == 3 else 1  # (time, batch, features)
        return math.prod(d for d in shape[start:] if isinstance(d, int))

    def source(self, number: int) -> ir.Value:
        """Return the output of another section: counted from the front, or from here back where negative.

        Raises:
            MalformedFile: there is no such section before this one.
        """
        index = number if number >= 0 else self.index + number
        if not 0 <= index < self.index:
            raise self.fail(f"section {number} is none of the {self.index} before this one")
        return self.values[index]

    def check(self, dims: Sequence[Dim]) -> None:
        """Check the shape that this layer is about to give.

        Raises:
            MalformedFile: a dimension is below 1.
            LimitExceeded: more than 2^31 - 1 numbers per item.
        """
        known = [d for d in dims if isinstance(d, int)]
        if any(d < 1 for d in known):
            raise self.fail(f"the output would have shape {tuple(dims)}: the window is larger than its input")
        if math.prod(known) > MOST_ELEMENTS:
            raise LimitExceeded(
                f"the output would have shape {tuple(dims)}: more than 2^31 - 1 numbers", layer=self.name
            )

    def check_constant(self, count: int) -> None:
        """Check the size of a constant that settings ask for, before it is made.

        Raises:
            LimitExceeded: more than 2^24 elements.
        """
        if count > MOST_CONSTANT:
            raise LimitExceeded(f"its settings ask for a table of {count} elements (at most 2^24)", layer=self.name)

    # parameters ------------------------------------------------------------------------------------------------

    def tensor(
        self, name: str, shape: Sequence[int], *, stored: tuple[int, int] | None = None, default: float | None = None
    ) -> ir.TensorProtocol:
        """Return the next parameter of the weights file; without one, a tensor that has no values yet.

        Args:
            name: what errors call it.
            shape: its shape in the graph.
            stored: rows and columns, where the file holds it as a matrix that has to be transposed.
            default: what training starts from, where it is a constant; else He et al.'s normal distribution.

        Raises:
            WeightsError: the file ends before.
            LimitExceeded: more than 2^31 - 1 elements.
        """
        shape = tuple(int(d) for d in shape)
        if any(d < 1 for d in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise LimitExceeded(f"{name} of shape {shape} (1 to 2^31 - 1 elements)", layer=self.name)
        if self.weights is None or self.section.int("dontload", 0):
            filler: dict[str, object] = {"type": "msra"} if default is None else {"type": "constant", "value": default}
            return uninitialised_tensor(shape, filler=filler)
        if stored is not None:
            return self.weights.take_transposed(*stored, shape, name, self.name)
        return self.weights.take(shape, name, self.name)

    def parameter(
        self,
        b: Builder,
        name: str,
        shape: Sequence[int],
        *,
        stored: tuple[int, int] | None = None,
        default: float | None = None,
        role: Role = Role.LEARNABLE,
    ) -> ir.Value:
        """Add the next parameter of the weights file to the graph; see :meth:`tensor`."""
        return b.param(name, self.tensor(name, shape, stored=stored, default=default), role=role)
