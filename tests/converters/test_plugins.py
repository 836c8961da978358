"""Plug-ins: files of users that register readers, and what they cannot do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from netferry.converters.caffe.registry import registry
from netferry.converters.formats import FORMATS, by_name
from netferry.converters.plugins import load_plugin
from netferry.converters.registry import Registry
from netferry.errors import InputError, UnknownFormat, UsageError
from tests.netferry.test_cli import netferry

MINE = """
from netferry.converters.caffe.registry import layer

@layer("{kind}")
def mine(b, l, x):
    \"\"\"Mine alone.

    More about it.
    \"\"\"
    return b.op("Relu", x)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_readers", dict(registry._readers))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_file_is_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE.format(kind="Mine"))
    for _ in range(2):  # a second time nothing is registered, or Mine would have a reader already
        load_plugin(tmp_path / "mine.py")
    assert "Mine" in registry
    (row,) = (row for row in registry.describe() if row["type"] == "Mine")
    assert row["about"] == "Mine alone."
    assert [row["type"] for row in registry.describe()] == list(registry)
    assert len(registry) == len(list(registry))


@pytest.mark.parametrize(
    ("name", "text", "error", "why"),
    [
        pytest.param("none.py", None, InputError, "no such plug-in", id="missing"),
        pytest.param("mine.txt", "x = 1", UsageError, r"is a Python file", id="no-python-file"),
        pytest.param("mine.py", "1 / 0", UsageError, "fails: ZeroDivisionError", id="fails"),
        pytest.param("mine.py", "def", UsageError, "fails: SyntaxError", id="no-python"),
        pytest.param("mine.py", MINE.format(kind="Mine") * 2, UsageError, "has two readers: ", id="twice"),
    ],
)
def test_what_is_no_plugin(tmp_path: Path, name: str, text: str | None, error: type[Exception], why: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=why):
        load_plugin(tmp_path / name)


def test_a_layer_of_netferry_cannot_be_taken(tmp_path: Path) -> None:
    """Plug-ins come first, the readers of the format after them: the clash shows when those are imported."""
    (tmp_path / "mine.py").write_text(MINE.format(kind="ReLU"))
    options = ("-o", tmp_path / "net.onnx", "--plugin", tmp_path / "mine.py")
    done = netferry("convert", "fixtures/digits.prototxt", "fixtures/digits.caffemodel", *options)
    assert done.returncode == 2, done.stderr
    assert "'ReLU' has two readers: of netferry_plugin_mine" in done.stderr


def test_a_reader_without_a_word_about_it() -> None:
    mine: Registry[object] = Registry("mine")  # pyright: ignore[reportInvalidTypeArguments]

    @mine.layer("B", "A")
    def silent() -> None: ...

    assert mine.describe() == [
        {"type": "A", "family": "test_plugins", "about": ""},
        {"type": "B", "family": "test_plugins", "about": ""},
    ]
    assert mine.get("A") is silent
    assert mine.get("C") is None


@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_every_format_lists_its_layers_or_has_none(name: str) -> None:
    layers = by_name(name).layers()
    assert layers is None or len(layers) > 10


def test_a_format_that_there_is_not() -> None:
    with pytest.raises(UnknownFormat, match="no format 'mxnet'; there are"):
        by_name("mxnet")
