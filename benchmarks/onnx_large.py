"""A 3 GB ONNX model through netferry: wall time, cpu and peak memory of the whole process.

    python -m benchmarks.onnx_large [--gigabytes 3] [--folder FOLDER] [--peer]

The model (a chain of products, weights in two data files at odd offsets) is made in FOLDER without being in memory.
It is opened, then converted with the structure check on and the check that runs it off, and raised to another opset
on the way; the weights that arrive are compared with those that left. The exit code is 1 where the peak passes 500 MB
or a byte differs. ``--peer`` runs onnx.load and onnx.save too, which takes the model's size in memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.measure import run

_SIDE = 4096
_BOUND = 500
_OPEN = """
import sys, time, netferry
times = []
for _ in range(3):  # the first one also imports
    start = time.perf_counter()
    model = netferry.load(sys.argv[1])
    times.append(round((time.perf_counter() - start) * 1000))
print(f"{times[0]} ms to open {len(model.graph)} nodes with imports, {min(times)} ms without")
"""
_PEER = "import onnx, sys; onnx.save(onnx.load(sys.argv[1]), sys.argv[2], save_as_external_data=True)"


def make(folder: Path, gigabytes: float) -> Path:
    """Write the model; its weights row by row."""
    count = max(1, round(gigabytes * 2**30 / (_SIDE * _SIDE * 4)))
    nodes, tensors, at = [], [], [0, 0]
    files = [(folder / name).open("wb") for name in ("one.bin", "two.bin")]
    row = np.random.default_rng(0).standard_normal(_SIDE).astype(np.float32) / _SIDE
    for i in range(count):
        file = i % 2
        at[file] += files[file].write(b"\0" * 13)  # an offset that no page begins at
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[_SIDE, _SIDE])
        tensor.data_location = TensorProto.EXTERNAL
        size = _SIDE * _SIDE * 4
        for key, value in (("location", ("one.bin", "two.bin")[file]), ("offset", at[file]), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        for k in range(_SIDE):
            at[file] += files[file].write(np.roll(row, k + i).tobytes())
        tensors.append(tensor)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"n{i}"))
    for file in files:
        file.close()
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", _SIDE]) for n in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "in.onnx")
    return folder / "in.onnx"


def same_weights(one: Path, other: Path) -> bool:
    """Whether both files hold the same weights, read one at a time."""
    models = [onnx.load(path, load_external_data=False) for path in (one, other)]
    for a, b in zip(*(m.graph.initializer for m in models), strict=True):
        arrays = []
        for path, tensor in ((one, a), (other, b)):
            place = {e.key: e.value for e in tensor.external_data}
            shape, offset = tuple(tensor.dims), int(place["offset"])
            arrays.append(np.memmap(path.parent / place["location"], np.uint8, "r", offset, int(np.prod(shape)) * 4))
        if a.name != b.name or not np.array_equal(*arrays):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peer", action="store_true")
    given = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        source = make(folder, given.gigabytes)
        size = sum(f.stat().st_size for f in folder.iterdir())
        log = folder / "log.txt"
        cost = run([sys.executable, "-c", _OPEN, str(source)], log=log)
        print(f"{size / 2**30:.2f} GiB; {log.read_text().strip()}, whole process {cost.peak:.0f} MiB")
        for opset in ("17", "21"):
            target = folder / "out" / "net.onnx"
            command = [sys.executable, "-m", "netferry", "convert", str(source), "-o", str(target)]
            cost = run([*command, "--external-data", "--opset", opset, "--check", "structure", "--json"])
            same = same_weights(source, target)
            bad |= cost.peak > _BOUND or not same
            print(
                f"convert to opset {opset}: {cost.wall:.1f} s, cpu {cost.cpu:.1f} s, peak {cost.peak:.0f} MiB"
                f" (bound {_BOUND}), weights {'the same' if same else 'OTHERS'}"
            )
            for file in target.parent.iterdir():
                file.unlink()
        if given.peer:
            cost = run([sys.executable, "-c", _PEER, str(source), str(folder / "out" / "peer.onnx")])
            print(f"onnx.load and onnx.save: {cost.wall:.1f} s, cpu {cost.cpu:.1f} s, peak {cost.peak:.0f} MiB")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
