"""Every network at every opset: written, fully checked, loaded, and compared with itself at its own opset.

    python -m benchmarks.opset_sweep SHARED [NAME ...] [--opsets 11,13,...]

SHARED is the folder with ``conformance`` and ``data``. Each Caffe conformance network, each Keras file and each ONNX
file there is written at opset 11, 13, 15, 17, 18, 20, 21, 22, 24 and 26, which passes onnx's full check on the way,
is run by onnxruntime on seeded inputs at batch 1 and 3, and compared with the network at its own opset. Refusals are
counted by reason. The exit code is 1 where an output differs, or a file that netferry wrote does not load or run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import netferry
from netferry.errors import UnsupportedError
from netferry.runtime.session import Session
from netferry.runtime.verify import compare, seeded_inputs

OPSETS = (11, 13, 15, 17, 18, 20, 21, 22, 24, 26)
SIZES = {"silero": {"input": (1, 576), "state": (2, 1, 128)}}
"""shapes of inputs that a network needs and does not say, by part of its name"""
RELATIVE, ABSOLUTE = 1e-4, 1e-6


def networks(shared: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """(name, files) of every network."""
    for folder in sorted((shared / "conformance" / "caffe").iterdir()):
        weights = [f for f in (folder / "net.caffemodel", folder / "net.caffemodel.h5") if f.exists()]
        yield f"caffe/{folder.name}", (folder / "net.prototxt", *weights)
    data = shared / "data"
    for pattern in ("*.h5", "*.hdf5", "*.keras", "*.onnx"):
        for file in sorted(data.rglob(pattern)):
            yield str(file.relative_to(data)), (file,)


def sweep(files: tuple[Path, ...], opsets: tuple[int, ...], folder: Path) -> Iterator[tuple[int, str, str]]:
    """(opset, agrees / refused / differs / fails, detail) of one network."""
    options: dict[str, Any] = {"init": 0, "skip_missing": True} if files[0].suffix == ".prototxt" else {}
    shapes = next((sizes for part, sizes in SIZES.items() if part in str(files[0])), {})
    model = netferry.load(*files, **options)
    netferry.save(model.copy(), folder / "own.onnx", check="structure")
    session = Session(folder / "own.onnx", "cpu", once=True)
    feeds = [_fed(session, batch, shapes) for batch in ((1,) if shapes else (1, 3))]
    wanted = [session.run(feed) for feed in feeds]
    for opset in opsets:
        target = folder / "other.onnx"
        try:
            netferry.save(model.copy(), target, opset=opset, check="structure")
        except UnsupportedError as error:
            yield opset, "refused", "; ".join(line.strip() for line in str(error).splitlines()[1:3])
            continue
        except netferry.NetferryError as error:
            yield opset, "fails", f"{type(error).__name__}: {error}"
            continue
        try:
            other = Session(target, "cpu", once=True)
            worst = [
                (row["max_rel"], row["max_abs"], name)
                for feed, want in zip(feeds, wanted, strict=True)
                for name, row in compare(other.run(feed), want).items()
            ]
        except netferry.NetferryError as error:
            yield opset, "fails", f"{type(error).__name__}: {error}"[:300]
            continue
        bad = [w for w in worst if not (w[0] <= RELATIVE or w[1] <= ABSOLUTE)]
        yield opset, "differs" if bad else "agrees", str(bad[:2]) if bad else ""


def _fed(session: Session, batch: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    ports = [replace(p, shape=shapes[p.name]) if p.name in shapes else p for p in session.inputs]
    feed = seeded_inputs(ports, batch, 0)
    if "sr" in feed:  # the sampling rate that the network was made for
        feed["sr"] = np.full_like(feed["sr"], 16000)
    return feed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("names", nargs="*", help="only networks whose name contains one of these")
    parser.add_argument("--opsets", default=",".join(map(str, OPSETS)))
    given = parser.parse_args()
    opsets = tuple(int(v) for v in given.opsets.split(","))
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for network, files in networks(given.shared):
            if given.names and not any(n in network for n in given.names):
                continue
            try:
                for opset, kind, detail in sweep(files, opsets, Path(name)):
                    counts[kind] += 1
                    if kind != "agrees":
                        print(f"{kind:8} {network} at {opset}: {detail}", flush=True)
            except netferry.NetferryError as error:
                counts["not read"] += 1
                print(f"not read {network}: {type(error).__name__}: {str(error)[:200]}", flush=True)
    print(", ".join(f"{k} {v}" for k, v in sorted(counts.items())))
    return int(counts["differs"] + counts["fails"] > 0)


if __name__ == "__main__":
    sys.exit(main())
