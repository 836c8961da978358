"""A device without memory: one typed error, told from other failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from netferry.errors import OutOfMemory
from netferry.runtime.session import Session

TOO_MUCH = """<ir_version: 10, opset_import: ["": 21]>
g (int64[1] n) => (float[m] y) { y = ConstantOfShape(n) }"""


def test_more_than_there_is(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(TOO_MUCH), tmp_path / "net.onnx")
    session = Session(tmp_path / "net.onnx", "cpu")
    assert len(session.run({"n": np.array([3])})["y"]) == 3
    with pytest.raises(OutOfMemory, match="memory"):
        session.run({"n": np.array([1 << 58])})
