"""``compare --zoo``: published accuracy, time taken here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import netferry
from netferry.errors import UsageError
from netferry.zoo.catalogue import entry

pytest.importorskip("matplotlib", reason="needs the extra 'evaluate'")


def test_accuracies_are_the_published_ones(tmp_path: Path) -> None:
    names = ["squeezenet", "shufflenet", "mobilenetv2"]
    found = netferry.compare_zoo(names, batch_size=1, repeats=2, out=tmp_path)
    rows = {row["name"]: row for row in found["models"]}
    assert {n: round(100 * r["top1"], 2) for n, r in rows.items()} == {n: entry(n).top1 for n in names}
    assert min(r["relative_time"] for r in rows.values()) == 1
    assert all(r["milliseconds"] > 0 and r["bytes"] > 4 * 1e6 for r in rows.values())
    assert json.loads((tmp_path / "comparison.json").read_text())["accuracy_from"].startswith("published")
    assert {f.suffix for f in tmp_path.iterdir()} == {".json", ".csv", ".png", ".svg"}


@pytest.mark.parametrize("names", [["squeezenet"], ["squeezenet", "yamnet"], ["squeezenet", "nothing"]])
def test_what_cannot_be_compared(names: list[str]) -> None:
    with pytest.raises(UsageError):
        netferry.compare_zoo(names)
