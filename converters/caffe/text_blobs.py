"""Weights that a prototxt holds itself, as protobuf prints a caffemodel: ``blobs { data: … shape { dim: … } }``.

Caffe's Layer constructor takes them as the layer's parameters (layer.hpp); a weights file is copied over them.
"""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.caffe.blobs import Blob
from netferry.converters.caffe.prototxt import Message, Scalar
from netferry.converters.caffe.wire import StoredLayer
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, quoted
from netferry.schemas.tensors import array_tensor

_LEGACY = ("num", "channels", "height", "width")


def take_blobs(net: Message, limits: Limits) -> dict[str, StoredLayer]:
    """Return the blobs of a net's layers by the layer's name, and take them out of the net.

    Raises:
        MalformedFile: a blob that is none, or whose shape is not that of its numbers.
    """
    found: dict[str, StoredLayer] = {}
    for field in ("layer", "layers"):
        for outer in net.messages(field):
            for layer in [*outer.messages("layer"), outer]:  # V0 has its layer inside another
                blobs = layer.messages("blobs")
                if not blobs:
                    continue
                name = layer.text("name")
                made = [_blob(message, name, limits) for message in blobs]
                found.setdefault(name, StoredLayer(name, layer.text("type"), made))
                layer.remove("blobs")
    return found


def _blob(message: Message, where: str, limits: Limits) -> Blob:
    singles, doubles = message.get("data"), message.get("double_data")
    if singles and doubles:
        raise MalformedFile("a blob with both float and double data", layer=where)
    values = np.array([_number(v, where) for v in singles or doubles], np.float32)
    dims = _dims(message, values.size, where)
    if len(dims) > limits.rank:
        raise LimitExceeded(f"a blob of {len(dims)} axes (limit rank={limits.rank})", layer=where)
    if math.prod(dims) != values.size:
        needed = math.prod(dims)
        raise MalformedFile(f"shape {list(dims)} needs {needed} numbers, the text has {values.size}", layer=where)
    legacy = "shape" not in message and any(key in message for key in _LEGACY)
    return Blob(dims, legacy, lambda shape: array_tensor(values.reshape(shape)))


def _dims(message: Message, count: int, where: str) -> tuple[int, ...]:
    if "shape" in message:
        given = [v for shape in message.messages("shape") for v in shape.get("dim")]
    elif any(key in message for key in _LEGACY):
        given = [(message.get(key) or [Scalar("0")])[-1] for key in _LEGACY]
    else:
        return (count,)
    dims: list[int] = []
    for value in given:
        number = value.as_int() if isinstance(value, Scalar) else None
        if number is None or number < 0:
            shown = value.text if isinstance(value, Scalar) else "{…}"
            raise MalformedFile(f"a blob with dimension {quoted(shown)}", layer=where)
        dims.append(number)
    return tuple(dims)


def _number(value: Scalar | Message, where: str) -> float:
    number = value.as_float() if isinstance(value, Scalar) else None
    if number is None:
        shown = value.text if isinstance(value, Scalar) else "{…}"
        raise MalformedFile(f"a blob holds {quoted(shown)}, which is not a number", layer=where)
    return number
