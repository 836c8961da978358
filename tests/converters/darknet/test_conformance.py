"""Every net of the conformance set, judged by what Darknet computed for it, all sections inside included."""

from __future__ import annotations

import json

import numpy as np
import pytest

from netferry.converters.darknet.read import read
from netferry.converters.options import ReadOptions
from tests.converters.caffe.conformance import Runner, agree
from tests.shared import shared, shared_root


def cases() -> list[object]:
    """One row per case folder; none where the set is not there (then a single row skips with the reason)."""
    root = shared_root()
    folder = root / "conformance" / "darknet" if root else None
    if folder is None or not folder.is_dir():
        return [pytest.param("", id="absent")]
    return [pytest.param(f.parent.name, id=f.parent.name) for f in sorted(folder.glob("*/case.json"))]


@pytest.mark.parametrize("name", cases())
def test_agrees_with_darknet(name: str) -> None:
    folder = shared("conformance", "darknet", name)
    info = json.loads((folder / "case.json").read_text())
    weights = folder / info["weights"] if info.get("weights") else None
    model = read(folder / info["cfg"], ReadOptions(weights=weights))
    assert not [note for note in model.notes if note.kind in ("warning", "ignored")]
    want, inputs = dict(np.load(folder / "expected.npz")), dict(np.load(folder / "input.npz"))
    runner = Runner(model, list(want))
    got = runner.run(inputs)
    agree(got, want, info["tolerance"], [info["output"]])
    reached = {n for n in want if n in got}
    dropped = {note.layer for note in model.notes if note.kind == "dropped"}
    assert reached | dropped >= set(want)
    twice = runner.run({k: np.concatenate([v[:, :, ::-1], v]) for k, v in inputs.items()})
    agree({k: v[1:] for k, v in twice.items()}, want, info["tolerance"], [info["output"]])
