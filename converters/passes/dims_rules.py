"""How operators carry symbolic shapes (``SHAPES``) and integer vectors (``DATA``) on."""

from __future__ import annotations

import netferry.converters.passes.dims_numbers
import netferry.converters.passes.dims_shapes  # noqa: F401 -- both register their rules
from netferry.converters.passes.dims_table import BROADCAST, DATA, SHAPES, UNARY, Known, Vector

__all__ = ["BROADCAST", "DATA", "SHAPES", "UNARY", "Known", "Vector"]
