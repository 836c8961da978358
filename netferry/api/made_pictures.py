"""Made-up pictures in the range that a network expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from netferry.errors import NetferryError
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of

if TYPE_CHECKING:
    from netferry.runtime.session import Port

_PIXEL = 255.0
_ON_THE_WAY = ("Transpose", "Cast", "Identity", "Pad", "Resize")
_LEAST = 16.0
"""a mean that is taken away, or a number that is divided by: above it pixels are not from 0 to 1"""


def scale_of_pixels(model: Model, name: str) -> float | None:
    """255 where the first thing that the network does with an input is to scale pixels down; else None.

    Keras's Rescaling (times 1/255 or 1/127.5) and Normalization (minus a mean of pixels) are such.
    """
    value = next((v for v in model.graph.inputs if v.name == name), None)
    while value is not None:
        readers = {use.node for use in value.uses()}
        if len(readers) != 1:
            return None
        node = readers.pop()
        if node.op_type in _ON_THE_WAY:
            value = node.outputs[0]
            continue
        constants = [array_of(v) for v in node.inputs if v is not value]
        if len(constants) != 1 or constants[0] is None or not constants[0].size or constants[0].dtype.kind != "f":
            return None
        size = float(np.abs(constants[0]).max())
        scales = {"Mul": 0 < size <= 1 / _LEAST, "Div": size >= _LEAST, "Sub": size >= _LEAST, "Add": size >= _LEAST}
        return _PIXEL if scales.get(node.op_type, False) else None
    return None


def pictures_of(model: Model, ports: Sequence[Port], feed: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Values of inputs that take pictures, in the range of real data: as their recipe makes them of random pictures, or
    0 to 255 where the network itself scales that down."""
    from netferry.runtime.preprocess import preprocess
    from netferry.schemas.preprocessing import COLORS

    for port in ports:
        recipe = model.preprocessing.get(port.name)
        values = feed[port.name]
        if not isinstance(values, np.ndarray) or values.ndim != 4 or values.dtype.kind != "f":
            continue
        if recipe is None:
            feed[port.name] = (values * (scale_of_pixels(model, port.name) or 1)).astype(values.dtype)
            continue
        height, width = values.shape[1:3] if recipe.layout == "NHWC" else values.shape[2:4]
        shape = (height, width) if COLORS[recipe.color] == 1 else (height, width, 3)
        rng = np.random.default_rng(seed)
        try:
            made = [
                preprocess(rng.integers(0, 256, shape, dtype=np.uint8), recipe, (height, width))
                for _ in range(len(values))
            ]
        except NetferryError:
            continue  # a recipe that fits other pictures
        if made[0].shape == values.shape[1:]:
            feed[port.name] = np.stack(made).astype(values.dtype)
    return feed
