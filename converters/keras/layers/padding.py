"""What ``valid``, ``same`` and ``causal`` mean, for fixed and for dynamic sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netferry.errors import MalformedFile
from netferry.schemas.graph import Dim


@dataclass(frozen=True)
class Padding:
    """ONNX's way to say it: explicit ``pads`` (begins, then ends) or ``auto_pad``."""

    pads: list[int] | None = None
    auto_pad: str | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of Conv or a pooling; nothing where there is no padding."""
        if self.auto_pad is not None:
            return {"auto_pad": self.auto_pad}
        return {"pads": self.pads} if self.pads and any(self.pads) else {}


def padding_of(
    kind: str, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """Return the padding of a convolution or pooling.

    ``same`` gives ceil(size / stride) outputs, with the odd element of padding at the end (TensorFlow's rule). It
    depends on the size where the stride is over 1; a dynamic size then needs SAME_UPPER, which is the same rule.

    Args:
        sizes: the dimensions of space.

    Raises:
        MalformedFile: without padding, a window that is larger than what it moves over.
    """
    if kind == "valid":
        for size, k, d in zip(sizes, kernel, dilation, strict=True):
            if isinstance(size, int) and size < (k - 1) * d + 1:
                raise MalformedFile(f"a window of {(k - 1) * d + 1} is larger than its input, which has {size}")
        return Padding()
    if kind == "causal":
        return Padding([(kernel[0] - 1) * dilation[0], 0])
    begins: list[int] = []
    ends: list[int] = []
    for size, k, s, d in zip(sizes, kernel, strides, dilation, strict=True):
        reach = (k - 1) * d + 1
        if s == 1:
            total = reach - 1
        elif reach == 1:
            total = 0
        elif isinstance(size, int):
            total = max((-(-size // s) - 1) * s + reach - size, 0)
        else:
            return Padding(auto_pad="SAME_UPPER")
        begins.append(total // 2)
        ends.append(total - total // 2)
    return Padding(begins + ends)
