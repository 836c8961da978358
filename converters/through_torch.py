"""The door of the format ``pytorch`` in the table of formats."""

from netferry.converters.through_onnx import read_program as read

__all__ = ["read"]
