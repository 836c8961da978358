"""Options with numbers that are none: a usage error each, before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from netferry.cli.options import parse_mean, parse_numbers, parse_pair, parse_sizes, reading_options
from netferry.errors import MalformedFile, UsageError
from netferry.runtime.data.rows import Rows

ROOT = Path(__file__).resolve().parents[2]


def _reading(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "format": None, "input_shape": None, "limit": None, "batch": "dynamic", "init": None, "skip_missing": False,
        "stage": None, "level": 0, "plugin": None,
    }  # fmt: skip
    return reading_options(**given | changed)


CASES: dict[str, Callable[[], object]] = {
    "a shape of a superscript": lambda: _reading(input_shape=["x=1,²"]),
    "a shape of 5000 digits": lambda: _reading(input_shape=["x=" + "9" * 5000]),
    "a limit of a superscript": lambda: _reading(limit=["nesting=²"]),
    "a limit of 5000 digits": lambda: _reading(limit=["nesting=" + "9" * 5000]),
    "a batch of Arabic digits": lambda: _reading(batch="٣"),
    "a size of a superscript": lambda: parse_pair("²", "--size"),
    "a crop beyond 31 bits": lambda: parse_pair("99999999999", "--crop"),
    "a dimension of 5000 digits": lambda: parse_sizes(["height=" + "9" * 5000]),
    "a mean that is infinite": lambda: parse_mean("inf"),
    "a mean that is no number": lambda: parse_mean("1,nan,2"),
    "a scale that is no number": lambda: parse_numbers("nan", "--scale"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        CASES[name]()


def test_numbers_and_files_of_means() -> None:
    assert parse_mean("104,117,123") == ((104.0, 117.0, 123.0), None)
    assert parse_mean("mean.binaryproto") == (None, Path("mean.binaryproto"))


def test_preprocessing_is_finite() -> None:
    net, weights = ROOT / "fixtures" / "digits.prototxt", ROOT / "fixtures" / "digits.caffemodel"
    with pytest.raises(MalformedFile, match="not finite"):
        netferry.load(net, weights, recipe={"mean": (float("inf"),)})


def test_a_plug_in_cannot_end_the_program(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("raise SystemExit(0)")
    with pytest.raises(UsageError, match="SystemExit"):
        netferry.load(ROOT / "fixtures" / "digits.prototxt", plugins=[tmp_path / "plug.py"])


def test_an_array_has_no_negative_sizes(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile):
        Rows((-5, 28, 28), np.dtype("f4"), iter(()), "a.npz")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 28, 28), }".ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header)
    with pytest.raises(MalformedFile):
        list(netferry.open_data(tmp_path / "a.npy"))
