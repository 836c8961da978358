"""``view``: Netron on this machine alone where it is installed, else our own page."""

from __future__ import annotations

import urllib.request
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from netferry import api
from netferry.errors import InputError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def test_our_own_page() -> None:
    shown = api.view(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", page=True, browse=False)
    assert (shown["by"], shown["server"]) == ("netferry", None)
    text = Path(unquote(urlparse(shown["address"]).path)).read_text("utf-8")
    assert "conv1" in text


def test_without_netron_it_is_our_own_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netferry.api.viewing.find_spec", lambda name: None)
    assert api.view(FIXTURES / "digits.prototxt", browse=False)["by"] == "netferry"


@pytest.mark.skipif(find_spec("netron") is None, reason="needs netron: pip install 'netferry[view]'")
def test_netron_serves_the_file_here_alone() -> None:
    shown = api.view(FIXTURES / "digits.prototxt", browse=False)
    try:
        assert shown["by"] == "netron"
        assert shown["address"].startswith("http://127.0.0.1:")
        with urllib.request.urlopen(shown["address"], timeout=20) as answer:
            assert b"digits" in answer.read()
    finally:
        shown["server"].stop()


def test_what_nobody_reads_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        api.view(tmp_path / "nothing.onnx", browse=False)
