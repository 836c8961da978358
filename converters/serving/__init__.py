"""Hand-over: an ONNX model laid out as serving stacks want it; a file per stack, placing.py puts it in place."""

from netferry.converters.serving.contents import Contents, Unit
from netferry.converters.serving.placing import publish
from netferry.converters.serving.targets import TARGETS, layout

__all__ = ["TARGETS", "Contents", "Unit", "layout", "publish"]
