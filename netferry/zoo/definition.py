"""The definitions that the package carries: one file per network in its native format, gzipped."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

SUFFIXES = ("prototxt", "cfg", "json", "onnxtxt")


def text_of(name: str) -> tuple[str, str]:
    """Return the suffix and the text of a network's definition."""
    folder = files("netferry.zoo").joinpath("definitions")
    for suffix in SUFFIXES:
        packed = folder.joinpath(f"{name}.{suffix}.gz")
        if packed.is_file():
            return suffix, gzip.decompress(packed.read_bytes()).decode()
    raise AssertionError(f"the package has no definition of {name}")


@contextmanager
def definition_file(name: str) -> Iterator[Path]:
    """Give the path of a network's definition as a file that a reader opens, for as long as the block lasts.

    ONNX text becomes a binary ONNX file; its parameters are inputs without values.
    """
    suffix, text = text_of(name)
    with tempfile.TemporaryDirectory(prefix="netferry-") as folder:
        path = Path(folder) / f"{name}.{suffix}"
        if suffix == "onnxtxt":
            import onnx

            path = path.with_suffix(".onnx")
            path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        else:
            path.write_text(text, "utf-8")
        yield path
