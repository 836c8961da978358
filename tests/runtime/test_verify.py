"""run_check against models whose right and wrong are plain to see; compare against hand-made differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netferry.errors import CheckFailed, MalformedFile, UsageError
from netferry.runtime.session import Port
from netferry.runtime.verify import compare, run_check, seeded_inputs
from tests.shared import shared


def model(graph: str) -> bytes:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {graph}').SerializeToString()


@pytest.mark.parametrize(
    ("graph", "batches", "shapes"),
    [
        pytest.param("(float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", [1, 3], [[1, 4], [3, 4]], id="N"),
        pytest.param("(float[batch, time] x) => (float[batch, time] y) { y = Relu(x) }", [1, 3], [[1, 5], [3, 5]],
                     id="time"),
        pytest.param("(float[sequence, batch] x) => (float[sequence, batch] y) { y = Relu(x) }", [1, 3],
                     [[5, 1], [5, 3]], id="time-major"),
        pytest.param("(float[b, height, W, q] x) => (float[b, height, W, q] y) { y = Relu(x) }", [1, 3],
                     [[1, 32, 32, 2], [3, 32, 32, 2]], id="pixels"),
        pytest.param("(float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }", [None], [[2, 4]], id="fixed"),
        pytest.param("(float x) => (float y) { y = Relu(x) }", [None], [[]], id="scalar"),
        pytest.param("(float[?, ?] x) => (float[?, ?] y) { y = Relu(x) }", [1, 3], [[1, 2], [3, 2]], id="unnamed"),
        pytest.param("(float16[N] x) => (float16[N] y) { y = Relu(x) }", [1, 3], [[1], [3]], id="half"),
        pytest.param("(bool[N] x) => (bool[N] y) { y = Not(x) }", [1, 3], [[1], [3]], id="bool"),
        pytest.param("(string[N] x) => (string[N] y) { y = Identity(x) }", [1, 3], [[1], [3]], id="string"),
        pytest.param("(int64[N] x) => (int64[N] y) { y = Neg(x) }", [1, 3], [[1], [3]], id="int64"),
    ],
)  # fmt: skip
def test_runs_and_follows_the_batch(graph: str, batches: list[int | None], shapes: list[list[int]]) -> None:
    facts = run_check(model(graph))
    assert json.loads(json.dumps(facts)) == facts
    assert [r["batch"] for r in facts["runs"]] == batches
    assert [r["outputs"][0]["shape"] for r in facts["runs"]] == shapes
    assert facts["warnings"] == []


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        pytest.param("(float[N, 4] x) => (float[N, 4] y) <int64[2] s = {1, -1}> { y = Reshape(x, s) }", "shape",
                     id="batch-does-not-follow"),
        pytest.param("(float[N, 4] x) => (float[N, 4] y) <int64[2] s = {2, -1}> { y = Reshape(x, s) }", "shape",
                     id="fixed-batch-inside"),
        pytest.param("(float[N, 4] x) => (float[N, 4] y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }", "fed with",
                     id="fails-at-three"),
        pytest.param("(float[N] x) => (float[N] y) { y = NoSuchOp(x) }", "does not load", id="unknown-operator"),
    ],
)  # fmt: skip
def test_fails(graph: str, says: str) -> None:
    with pytest.raises(CheckFailed) as error:
        run_check(model(graph))
    assert says in str(error.value)


def test_not_finite_is_reported_not_refused() -> None:
    facts = run_check(model("(float[N, 4] x) => (float[N, 4] y) <float a = {-2.0}> { b = Add(x, a) y = Log(b) }"))
    assert facts["warnings"] == ["output 'y' has values that are NaN or infinite"]
    assert [r["outputs"][0]["not_finite"] for r in facts["runs"]] == [4, 12]


def test_inputs_are_seeded_and_sized() -> None:
    ports = [Port("x", "float", ("N", "k")), Port("i", "int32", (7,))]
    one, two = (seeded_inputs(ports, 3, seed=5, sizes={"k": 6}) for _ in range(2))
    assert {n: v.shape for n, v in one.items()} == {"x": (3, 6), "i": (7,)}
    assert all(np.array_equal(one[n], two[n]) for n in one)
    assert not np.array_equal(one["x"], seeded_inputs(ports, 3, seed=6, sizes={"k": 6})["x"])
    with pytest.raises(UsageError):
        seeded_inputs([Port("s", "opaque(x,y)", ())], 1, 0)


def test_values_of_sequences_maps_and_types_that_numpy_lacks() -> None:
    ports = [
        Port("s", "seq(tensor(float))", ("N", 2)), Port("o", "optional(tensor(int64))", ("N",)),
        Port("m", "map(string,tensor(float))", ()), Port("n", "seq(map(int64,tensor(float)))", ()),
        Port("b", "bfloat16", ("N", 4)), Port("i", "int4", (6,)), Port("c", "complex64", (2,)),
    ]  # fmt: skip
    made = seeded_inputs(ports, 3, 0, keys={"m": ["x", "y"]})
    assert [item.shape for item in made["s"]] == [(3, 2)] * 3
    assert made["o"].shape == (3,)
    assert list(made["m"]) == ["x", "y"]
    assert [list(item) for item in made["n"]] == [[0, 1, 2, 3]] * 3
    assert [str(made[n].dtype) for n in "bic"] == ["bfloat16", "int4", "complex64"]
    signed = seeded_inputs(ports, 3, 0, signed=True)
    assert signed["o"] is None
    assert min(item.min() for item in signed["s"]) < 0
    assert signed["b"].astype(np.float32).min() < 0


def test_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MalformedFile):
        run_check(path)


@pytest.mark.parametrize("name", ["RFB-320.onnx", "slim-320.onnx"])
def test_real_models(name: str) -> None:
    facts = run_check(shared("data", "ultraface", name))
    assert facts["warnings"] == []


A = np.array([1.0, -2.0, 4.0], np.float32)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(A, A, (0, 0, 0), id="equal"),
        pytest.param(A, A + np.array([0, 0, 0.5], np.float32), (0.5, 0.5 / 4.5, 1), id="apart"),
        pytest.param(A * 0, A * 0, (0, 0, 0), id="zeros"),
        pytest.param(A, A * 0, (4, INF, 3), id="zero-reference"),
        pytest.param(np.array([NAN, INF, 1]), np.array([NAN, INF, 1]), (0, 0, 0), id="nan-equals-nan"),
        pytest.param(np.array([NAN, 1]), np.array([1.0, 1]), (INF, INF, 1), id="nan-on-one-side"),
        pytest.param(np.array([INF, 1]), np.array([-INF, 1]), (INF, INF, 1), id="infinities-of-two-signs"),
        pytest.param(np.array([2**53, 1]), np.array([2**53, 3]), (2, 2 / 2**53, 1), id="integers"),
        pytest.param(np.array(["a", "b"], object), np.array(["a", "c"], object), (INF, INF, 1), id="strings"),
        pytest.param(A[:0], A[:0], (0, 0, 0), id="empty"),
    ],
)
def test_compare(a: np.ndarray, b: np.ndarray, expected: tuple[float, float, int]) -> None:
    row = compare({"y": a}, {"y": b})["y"]
    assert (row["max_abs"], row["max_rel"], row["differing"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "b",
    [
        pytest.param({"z": A}, id="names"),
        pytest.param({"y": A[None]}, id="shapes"),
        pytest.param({"y": A.astype(str)}, id="kinds"),
    ],
)
def test_compare_refuses(b: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed):
        compare({"y": A}, b)
