"""Predictions into files: CSV, TSV, JSON lines and Parquet hold what is printed; raw scores are the network's own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from fixtures import make
from netferry.api import predict
from netferry.errors import InputError, UsageError
from netferry.runtime.session import Session

FIXTURES = Path(make.__file__).parent
PICTURES = sorted(FIXTURES.glob("digit_*.png"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    model = netferry.load(
        FIXTURES / "digits.prototxt",
        FIXTURES / "digits.caffemodel",
        mean_file=FIXTURES / "digits_mean.binaryproto",
        recipe={"scale": (1 / 256,)},
        labels=FIXTURES / "digits_labels.txt",
    )
    netferry.save(model, path, check="structure")
    return path


def table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        rows = []
        for line in path.read_text().splitlines():
            raw = json.loads(line)
            row: dict[str, Any] = {"item": raw["item"], "error": raw.get("error", {}).get("reason")}
            for n, answer in enumerate(raw.get("top", []), 1):
                row |= {(k if n == 1 else f"{k}_{n}"): v for k, v in answer.items()}
            rows.append(row)
        return rows
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return parquet.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_files(digits: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    broken = tmp_path / "bröken, or not.png"
    broken.write_bytes(b"no picture")
    items = [str(PICTURES[0]), str(broken), *map(str, PICTURES[1:])]
    out = tmp_path / f"p.{suffix}"
    result = predict(digits, items, output=out, top=2, on_error="skip", batch_size=5)
    plain = predict(digits, items, top=2, on_error="skip")
    rows = table(out)
    assert [row["item"] for row in rows] == items
    assert (result["count"], len(result["skipped"]), result["predictions"]) == (12, 1, [])
    assert "cannot be read" in rows[1]["error"]
    for row, wanted in zip(rows[:1] + rows[2:], plain["predictions"], strict=True):
        for n, answer in enumerate(wanted["top"], 1):
            ending = "" if n == 1 else f"_{n}"
            assert row[f"label{ending}"] == answer["label"]
            assert int(row[f"class{ending}"]) == answer["class"]
            assert float(row[f"score{ending}"]) == pytest.approx(answer["score"], abs=1e-6)
    before = out.read_bytes()
    with pytest.raises(InputError):
        predict(digits, items, output=out)
    assert out.read_bytes() == before, "a run that failed leaves the old file"
    assert not list(tmp_path.glob(".netferry*"))


def test_raw_scores(digits: Path, tmp_path: Path) -> None:
    predict(digits, str(FIXTURES / "digits.csv"), out_raw=tmp_path / "raw.npz", batch_size=5)
    with np.load(tmp_path / "raw.npz") as file:
        raw, items, labels = file["prob"], file["items"], file["labels"]
    from netferry.runtime.data import open_data
    from netferry.runtime.feed import Feed

    feed = Feed(Session(digits, "cpu"))
    batch = np.stack([feed(item)["data"] for item in open_data(PICTURES)])
    expected = {str(p): row for p, row in zip(PICTURES, feed.session.run({"data": batch})["prob"], strict=True)}
    assert len(raw) == 12
    for row, item in zip(raw, items, strict=True):
        np.testing.assert_allclose(row, expected[item].reshape(-1), atol=1e-6)
    assert labels[0] == "zero"


def test_shards_and_arrays(digits: Path, tmp_path: Path) -> None:
    parts = [predict(digits, FIXTURES, shard=f"{n}/2")["predictions"] for n in (1, 2)]
    assert sorted(row["item"] for part in parts for row in part) == [str(p) for p in PICTURES]
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (5, 20, 20), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    from_file = predict(digits, tmp_path / "x.npy")["predictions"]
    from_arrays = predict(digits, list(pixels))["predictions"]
    assert [row["top"] for row in from_file] == [row["top"] for row in from_arrays]


def test_memory_that_does_not_suffice_is_told(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the batch is tried, and predict and evaluate say so; the answers are the same."""
    from netferry.errors import OutOfMemory

    plain = Session.run

    def small(self: Session, feeds: Any, outputs: Any = None) -> Any:
        if len(feeds["data"]) > 4:
            raise OutOfMemory("too many")
        return plain(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", small)
    found = predict(digits, [FIXTURES / "digits.csv"], batch_size=8)
    assert found["notes"] == ["out of memory at 8 items: batches of 4 from here on"]
    assert found["count"] == len(PICTURES)
    measured = netferry.evaluate(digits, FIXTURES / "digits.csv", batch_size=8)
    assert (measured["top1"], measured["notes"]) == (1.0, found["notes"])


def test_wrong_outputs(digits: Path, tmp_path: Path) -> None:
    for given in ({"output": tmp_path / "p.xls"}, {"out_raw": tmp_path / "p.csv"}, {"top": 0}):
        with pytest.raises(UsageError):
            predict(digits, FIXTURES, **given)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_command_line_reads_paths_from_stdin(digits: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "netferry",
        "predict",
        str(digits),
        "-",
        "-o",
        str(tmp_path / "p.csv"),
        "--top",
        "1",
    ]
    names = "\n".join(map(str, PICTURES[:3]))
    done = subprocess.run(command, input=names, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [Path(row["item"]).name for row in table(tmp_path / "p.csv")] == [p.name for p in PICTURES[:3]]


def test_threads_of_the_network(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = Session.__init__, []

    def made(self: Session, model: Any, device: str = "auto", threads: int | None = None, **more: Any) -> None:
        seen.append(threads)
        plain(self, model, device, threads, **more)

    monkeypatch.setattr(Session, "__init__", made)
    data = FIXTURES / "digits.csv"
    predict(digits, data, threads=1)
    netferry.features(digits, data, tmp_path / "f.npz", layers=["ip1"], threads=2)
    netferry.evaluate(digits, data, threads=3)
    netferry.visualize(digits, [data], kind="map", out=tmp_path / "m.png", threads=4)
    assert seen == [1, 2, 3, 4]
