"""LSTM, RNN and LSTMUnit against loops in NumPy by Caffe's equations, at several lengths and batch sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import NetferryError
from netferry.schemas.model import Model
from tests.converters.caffe.conformance import Arrays, Runner
from tests.converters.caffe.single import convert, seeded
from tests.converters.caffe.test_elementwise import layer

T, N, D = 5, 2, 3


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class Setup:
    """One recurrent layer: its bottoms by name, and its blobs in the order of the file."""

    kind: str
    static: bool
    exposed: bool
    trailing: tuple[int, ...]

    def feeds(self, steps: int = T, batch: int = N) -> Arrays:
        feeds = {"x": seeded(steps, batch, *self.trailing), "cont": self.cont(steps, batch)}
        if self.static:
            feeds["s"] = seeded(batch, 2, 3, seed=7)
        if self.exposed:
            states = ("h0", "c0") if self.kind == "LSTM" else ("h0",)
            feeds |= {name: seeded(1, batch, D, seed=8 + i) for i, name in enumerate(states)}
        return feeds

    @staticmethod
    def cont(steps: int, batch: int) -> np.ndarray:
        """Sequences that begin anew at some steps; 0.5 is no usual value, and Caffe multiplies by it."""
        return np.random.default_rng(3).choice(np.array([0, 1, 1, 0.5], np.float32), (steps, batch))

    @property
    def blobs(self) -> list[np.ndarray]:
        rows, values = (4 * D if self.kind == "LSTM" else D), int(np.prod(self.trailing))
        out = [seeded(rows, values, seed=1), seeded(rows, seed=2)]
        out += [seeded(rows, 6, seed=3)] if self.static else []
        out.append(seeded(rows, D, seed=4))
        return out if self.kind == "LSTM" else [*out, seeded(D, D, seed=5), seeded(D, seed=6)]

    @property
    def text(self) -> str:
        tops = {"LSTM": "y hT cT", "RNN": "y hT"}[self.kind] if self.exposed else "y"
        settings = f"recurrent_param {{ num_output: {D} expose_hidden: {int(self.exposed)} }}"
        return layer(self.kind, settings, " ".join(self.feeds()), tops)

    def expected(self, feeds: Arrays) -> Arrays:
        steps, batch = feeds["cont"].shape
        W_x, bias, *others = self.blobs
        drive = feeds["x"].reshape(steps, batch, -1) @ W_x.T + bias
        if self.static:
            drive = drive + feeds["s"].reshape(batch, -1) @ others.pop(0).T
        h, c = (feeds.get(n, np.zeros((1, batch, D), np.float32))[0] for n in ("h0", "c0"))
        out: list[np.ndarray] = []
        for x, cont in zip(drive, feeds["cont"][:, :, None], strict=True):
            gates = x + (cont * h) @ others[0].T
            if self.kind == "LSTM":
                i, f, o, g = np.split(gates, 4, 1)
                c = cont * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                out.append(h)
            else:
                h = np.tanh(gates)
                out.append(np.tanh(h @ others[1].T + others[2]))
        last = {"hT": h[None], "cT": c[None]} if self.kind == "LSTM" else {"hT": h[None]}
        return {"y": np.stack(out), **(last if self.exposed else {})}


SETUPS = [
    pytest.param(Setup(kind, static, exposed, trailing), id=f"{kind}-{name}")
    for kind in ("LSTM", "RNN")
    for static, exposed, trailing, name in (
        (False, False, (4,), "plain"),
        (True, False, (4,), "static"),
        (False, True, (4,), "exposed"),
        (True, True, (2, 3), "all"),
    )
]


@pytest.mark.parametrize("setup", SETUPS)
def test_recurrent(tmp_path: Path, setup: Setup) -> None:
    runner = Runner(convert(tmp_path, setup.text, setup.feeds(), {"y": setup.blobs}))
    assert runner.dims["x"][:2] == ["time", "batch"]
    for steps, batch in ((T, N), (1, 1), (9, 4)):
        feeds = setup.feeds(steps, batch)
        got = runner.run(feeds)
        want = setup.expected(feeds)
        assert sorted(got) == sorted(want)
        for name, array in want.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def fixed(folder: Path, setup: Setup) -> Model:
    convert(folder, setup.text, setup.feeds(), {"y": setup.blobs})
    return read(folder / "net.prototxt", ReadOptions(weights=folder / "net.caffemodel", batch=N))


@pytest.mark.parametrize("setup", SETUPS)
def test_recurrent_with_a_fixed_batch(tmp_path: Path, setup: Setup) -> None:
    got = Runner(fixed(tmp_path, setup)).run(setup.feeds())
    for name, array in setup.expected(setup.feeds()).items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_weights_are_learnable_and_named(tmp_path: Path) -> None:
    setup = Setup("LSTM", True, False, (4,))
    graph = convert(tmp_path, setup.text, setup.feeds(), {"y": setup.blobs}).ir.graph
    learnt = [n for n, v in graph.initializers.items() if v.metadata_props["netferry.role"] == "learnable"]
    assert sorted(learnt) == ["y.W_hc", "y.W_xc", "y.W_xc_static", "y.b_c"]


def test_lstm_unit(tmp_path: Path) -> None:
    feeds = {"c": seeded(1, 4, D), "g": seeded(1, 4, 4 * D), "k": np.array([[1, 0, 0.5, 1]], np.float32)}
    got = Runner(convert(tmp_path, layer("LSTMUnit", "", "c g k", "c1 h1"), feeds)).run(feeds)
    i, f, o, g = np.split(feeds["g"], 4, 2)
    cell = feeds["k"][:, :, None] * sigmoid(f) * feeds["c"] + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(got["c1"], cell, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["h1"], sigmoid(o) * np.tanh(cell), rtol=1e-5, atol=1e-6)


PARAM = "recurrent_param { num_output: 3 }"


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        pytest.param(layer("LSTM", PARAM, "a"), [(5, 2, 4)], id="no-cont"),
        pytest.param(layer("LSTM", PARAM, "a b"), [(5, 2), (5, 2)], id="no-values"),
        pytest.param(layer("LSTM", PARAM, "a b"), [(5, 2, 4), (5, 3)], id="cont-shape"),
        pytest.param(layer("LSTM", PARAM, "a b"), [(5, 2, 4), (5, 2, 1)], id="cont-rank"),
        pytest.param(layer("LSTM", PARAM, "a b c"), [(5, 2, 4), (5, 2), (3, 4)], id="static-batch"),
        pytest.param(layer("LSTM", "", "a b"), [(5, 2, 4), (5, 2)], id="no-size"),
        pytest.param(layer("RNN", "recurrent_param { num_output: 0 }", "a b"), [(5, 2, 4), (5, 2)], id="zero-size"),
        pytest.param(
            layer("RNN", "recurrent_param { num_output: 2147483647 }", "a b"), [(5, 2, 4), (5, 2)], id="vast-size"
        ),
        pytest.param(
            layer("RNN", "recurrent_param { num_output: 3 expose_hidden: true }", "a b"),
            [(5, 2, 4), (5, 2)],
            id="exposed-without-state",
        ),
        pytest.param(
            layer("RNN", "recurrent_param { num_output: 3 expose_hidden: true }", "a b c", "y h"),
            [(5, 2, 4), (5, 2), (1, 2, 4)],
            id="state-size",
        ),
        pytest.param(layer("RNN", PARAM, "a b", "y h"), [(5, 2, 4), (5, 2)], id="top-that-is-not-exposed"),
        pytest.param(layer("LSTMUnit", "", "a b c", "p q"), [(1, 2, 3), (1, 2, 9), (1, 2)], id="unit-gates"),
        pytest.param(layer("LSTMUnit", "", "a b c", "p q"), [(2, 3), (1, 2, 12), (1, 2)], id="unit-cell"),
    ],
)
def test_refuses(tmp_path: Path, text: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {n: seeded(*s) for n, s in zip("abc", shapes, strict=False)})
    assert caught.value.layer == "y"


def test_blobs_of_another_size(tmp_path: Path) -> None:
    setup = Setup("LSTM", False, False, (4,))
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, setup.text, setup.feeds(), {"y": [*setup.blobs[:2], seeded(4 * D, D + 1)]})
    assert caught.value.layer == "y"
