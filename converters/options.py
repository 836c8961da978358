"""What a caller may say about reading a file; every reader takes the ones that concern it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from netferry.errors import UsageError, quoted


@dataclass(frozen=True)
class Limits:
    """Bounds on what a file may ask for; the errors name the field and its option (``--limit name=value``)."""

    nesting: int = 100
    """depth of nested messages, objects, subgraphs, submodels"""
    text_bytes: int = 100_000_000
    """size of a prototxt, JSON or label file"""
    message_bytes: int = 2**31 - 1
    """size of one protobuf message"""
    digits: int = 20
    """digits of a number in text"""
    rank: int = 32
    dim: int = 2**31 - 1
    layers: int = 100_000
    nodes: int = 1_000_000
    name_bytes: int = 65_536
    init_elements: int = 1_000_000_000
    """elements of all parameters that --init may create"""
    zip_members: int = 10_000
    zip_ratio: int = 100
    """unpacked to packed size of a member of an archive, above ``ratio_bytes``"""
    hdf5_ratio: int = 1000
    """declared to stored size of an HDF5 array, above ``ratio_bytes``"""
    ratio_bytes: int = 16 << 20
    """unpacked size up to which no ratio is too large: small things pack well"""
    run_bytes: int = 4 << 30
    """bytes that one run of the check after writing may compute with, weights not counted"""
    run_seconds: int = 60
    """seconds that one run of the check may take"""

    @classmethod
    def of(cls, given: Mapping[str, int] | None) -> Limits:
        """Return the defaults with what a caller gave in their place.

        Raises:
            UsageError: no such limit.
        """
        given = given or {}
        for name in given:
            if name not in cls.__dataclass_fields__:
                known = ", ".join(cls.__dataclass_fields__)
                raise UsageError(f"no such limit: {quoted(name)}; there are {known}")
        return cls(**given)


@dataclass(frozen=True)
class ReadOptions:
    """Options of ``netferry.load`` and ``netferry convert`` that concern reading."""

    weights: Path | None = None
    """second file, for formats that keep weights apart from the architecture"""
    batch: int | None = None
    """fixed batch size; None keeps the batch dynamic"""
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """shapes of inputs that the file does not give (or that should change), the batch first"""
    mean: Path | None = None
    """Caffe: a .binaryproto mean image"""
    level: int = 0
    """Caffe: net state level"""
    stages: tuple[str, ...] = ()
    """Caffe: net state stages"""
    skip_missing: bool = False
    """go on where the weights file lacks some"""
    inputs_as_nchw: tuple[str, ...] = ()
    """inputs of a channels-last source that become channels-first ("*": all pictures and volumes)"""
    outputs_as_nchw: tuple[str, ...] = ()
    """outputs of a channels-last source that become channels-first ("*": all)"""
    right_padded_masks: bool = False
    """Keras: steps are masked only at the end of a sequence; recurrent layers then need no sorting of steps"""
    decode_boxes: bool = False
    """Darknet: detection heads become boxes and scores, suppressed"""
    score_threshold: float = 0.25
    """with ``decode_boxes``: only boxes with a higher score"""
    overlap: float = 0.45
    """with ``decode_boxes``: a box that overlaps a better one of its class by more (IoU) goes"""
    no_weights: bool = False
    """the architecture alone: data files that hold the weights need not be there"""
    limits: Limits = field(default_factory=Limits)
