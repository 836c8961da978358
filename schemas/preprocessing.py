"""How a picture becomes the network's input; light enough for a serving process (no onnx, no onnx_ir)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netferry.errors import MalformedFile

COLORS = {"RGB": 3, "BGR": 3, "GRAY": 1}
RESIZES = ("stretch", "shortest", "letterbox", "none")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "aligned")
LETTERBOX_FILL = 128
"""grey around a letterboxed picture: Darknet's 0.5"""
LAYOUTS = ("NCHW", "NHWC")
MAX_PIXELS = 178_956_970
"""Largest picture that is decoded or made: twice Pillow's warning mark, half a gigabyte as RGB."""
_FLOAT_MAX = 3.4028234663852886e38
"""the largest float32"""


@dataclass(frozen=True)
class Preprocessing:
    """Recipe from a decoded picture (0..255) to an input tensor.

    Steps, in order: convert to ``color``; resize by ``resize`` to ``size``; centre-crop to ``crop``; subtract
    ``mean_image`` or ``mean``; multiply by ``scale``; arrange as ``layout``. So ``y = (pixel - mean) * scale``.
    """

    color: str = "RGB"
    """channel order of the tensor: RGB, BGR or GRAY"""
    size: tuple[int, int] | None = None
    """height and width to resize to; None means the input's own"""
    resize: str = "stretch"
    """``stretch`` to exactly ``size``; ``shortest`` side to min(size) keeping the aspect; ``letterbox``: as large as
    fits into ``size`` keeping the aspect, in the middle of grey; or ``none``"""
    interpolation: str = "bilinear"
    """Pillow's filters, which smooth what becomes smaller; ``aligned`` is Darknet's own: bilinear between pixels whose
    corners fall on corners, without smoothing, not rounded"""
    crop: tuple[int, int] | None = None
    """height and width of the centre crop after resizing"""
    mean: tuple[float, ...] = ()
    """subtracted per channel, in ``color`` order, on the 0..255 scale; empty for none, one value for all"""
    scale: tuple[float, ...] = ()
    """factor per channel after the mean; empty for 1, one value for all"""
    mean_image: np.ndarray | None = field(default=None, compare=False)
    """C x H x W float32, in ``color`` order, subtracted instead of ``mean``; cropped like the picture"""
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.color, COLORS, "color"),
            (self.resize, RESIZES, "resize"),
            (self.interpolation, INTERPOLATIONS, "interpolation"),
            (self.layout, LAYOUTS, "layout"),
        ):
            if value not in allowed:
                raise MalformedFile(f"preprocessing: {what} {value!r} is none of {', '.join(allowed)}")
        for value, what in ((self.mean, "mean"), (self.scale, "scale")):
            if len(value) not in (0, 1, COLORS[self.color]):
                raise MalformedFile(f"preprocessing: {what} has {len(value)} values for {self.color}")
            if not all(abs(v) <= _FLOAT_MAX for v in value):
                raise MalformedFile(f"preprocessing: {what} has values that are not finite")
        for sides, what in ((self.size, "size"), (self.crop, "crop")):
            if sides is not None and (min(sides) < 1 or sides[0] * sides[1] > MAX_PIXELS):
                raise MalformedFile(f"preprocessing: {what} is {list(sides)}: 1 to {MAX_PIXELS:,} pixels are possible")
        if self.mean_image is not None and not np.isfinite(self.mean_image).all():
            raise MalformedFile("preprocessing: the mean image has values that are not finite")

    def with_(self, **changes: Any) -> Preprocessing:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """JSON form (see metadata.schema.json); defaults are left out."""
        out: dict[str, Any] = {"color": self.color, "resize": self.resize, "interpolation": self.interpolation}
        for name in ("size", "crop", "mean", "scale"):
            value = getattr(self, name)
            if value:
                out[name] = list(value)
        if self.mean_image is not None:
            data = np.ascontiguousarray(self.mean_image, "<f4")
            out["mean_image"] = {"shape": list(data.shape), "float32": base64.b64encode(data.tobytes()).decode()}
        out["layout"] = self.layout
        return out

    @classmethod
    def from_dict(cls, raw: Any) -> Preprocessing:
        """Read the JSON form.

        Raises:
            MalformedFile: a field is of the wrong kind, unknown or contradictory.
        """
        known = {"color", "size", "resize", "interpolation", "crop", "mean", "scale", "mean_image", "layout"}
        if not isinstance(raw, dict) or not set(raw) <= known:
            raise MalformedFile(f"preprocessing: expected an object with {', '.join(sorted(known))}")
        fields = dict(raw)
        try:
            for name in ("size", "crop"):
                if name in fields:
                    height, width = (int(v) for v in fields[name])
                    fields[name] = (height, width)
            for name in ("mean", "scale"):
                if name in fields:
                    fields[name] = tuple(float(v) for v in fields[name])
            if "mean_image" in fields:
                image = fields["mean_image"]
                data = np.frombuffer(base64.b64decode(image["float32"], validate=True), "<f4")
                fields["mean_image"] = data.reshape([int(d) for d in image["shape"]])
            return cls(**fields)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise MalformedFile(f"preprocessing: {error}") from None
