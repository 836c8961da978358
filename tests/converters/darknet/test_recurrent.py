"""The layers of text nets against loops over time, written from rnn_layer.c, gru_layer.c and lstm_layer.c."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.converters.darknet.running import convert, result

T, N, F, H = 5, 3, 7, 4
X = np.random.default_rng(3).standard_normal((T, N, F)).astype(np.float32)
Array = np.ndarray


class Connected:
    """connected_layer.c: outputs x inputs, perhaps normalised."""

    def __init__(self, seed: int, inputs: int, outputs: int, normalised: bool) -> None:
        rng = np.random.default_rng(seed)
        self.bias, self.weights = rng.standard_normal(outputs), rng.standard_normal((outputs, inputs)) / 2
        self.scale, self.mean, self.variance = (
            rng.random(outputs) + 0.5,
            rng.standard_normal(outputs),
            rng.random(outputs),
        )
        self.normalised = normalised

    @property
    def arrays(self) -> list[Array]:
        plain = [self.bias, self.weights]
        return [*plain, self.scale, self.mean, self.variance] if self.normalised else plain

    def __call__(self, x: Array) -> Array:
        y = x @ self.weights.T
        if self.normalised:
            y = (y - self.mean) / (np.sqrt(self.variance) + 1e-6) * self.scale
        return y + self.bias


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def parts(names: str, normalised: bool) -> dict[str, Connected]:
    """One part per two letters: w from the state, u from the input."""
    made = {}
    for i, name in enumerate(names.split()):
        made[name] = Connected(i, H if name[0] == "w" else F, H, normalised)
    return made


def flat(order: str, made: dict[str, Connected]) -> list[Array]:
    return [a for name in order.split() for a in made[name].arrays]


NET = f"[net]\ninputs={F}\n"


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("header", [(0, 2, 0), (0, 2, 5)], ids=["darknet", "fork"])
def test_lstm(tmp_path: Path, normalised: bool, header: tuple[int, int, int]) -> None:
    p = parts("wi wf wo wg ui uf uo ug", normalised)
    order = "wi wf wo wg ui uf uo ug" if header[2] == 0 else "wf wi wg wo uf ui ug uo"
    h, c, want = np.zeros((N, H)), np.zeros((N, H)), []
    for x in X:
        f, i, o = (logistic(p["w" + g](h) + p["u" + g](x)) for g in "fio")
        c = c * f + i * np.tanh(p["wg"](h) + p["ug"](x))
        h = np.tanh(c) * o
        want.append(h)
    cfg = f"{NET}[lstm]\noutput={H}\nbatch_normalize={int(normalised)}\n"
    model = convert(tmp_path, cfg, flat(order, p), header=header)
    np.testing.assert_allclose(result(model, X), np.stack(want), rtol=1e-4, atol=1e-5)
    assert next(n.op_type for n in model.graph) == "LSTM"


@pytest.mark.parametrize("tanh", [0, 1])
@pytest.mark.parametrize("header", [(0, 2, 0), (0, 2, 5)], ids=["darknet", "fork"])
def test_gru(tmp_path: Path, tanh: int, header: tuple[int, int, int]) -> None:
    p = parts("wz wr wh uz ur uh", True)
    h, want = np.zeros((N, H)), []
    for x in X:
        z, r = (logistic(p["u" + g](x) + p["w" + g](h)) for g in "zr")
        candidate = (np.tanh if tanh else logistic)(p["uh"](x) + p["wh"](h * r))
        h = z * h + (1 - z) * candidate
        want.append(h)
    order = "wz wr wh uz ur uh" if header[2] == 0 else "uz ur uh wz wr wh"
    cfg = f"{NET}[gru]\noutput={H}\nbatch_normalize=1\ntanh={tanh}\n"
    model = convert(tmp_path, cfg, flat(order, p), header=header)
    np.testing.assert_allclose(result(model, X), np.stack(want), rtol=1e-4, atol=1e-5)
    assert next(n.op_type for n in model.graph) == "GRU"


@pytest.mark.parametrize("shortcut", [0, 1])
@pytest.mark.parametrize("normalised", [False, True])
def test_rnn(tmp_path: Path, shortcut: int, normalised: bool) -> None:
    hidden = 6
    widths = ((F, hidden), (hidden, hidden), (hidden, H))
    outer, inner, last = (Connected(i, a, b, normalised) for i, (a, b) in enumerate(widths))

    def leaky(x: Array) -> Array:
        return np.where(x > 0, x, 0.1 * x)

    state, want = np.zeros((N, hidden)), []
    for x in X:
        state = leaky(outer(x)) + leaky(inner(state)) + shortcut * state
        want.append(leaky(last(state)))
    cfg = f"{NET}[rnn]\noutput={H}\nhidden={hidden}\nactivation=leaky\nshortcut={shortcut}\n"
    model = convert(
        tmp_path, cfg + f"batch_normalize={int(normalised)}\n", [a for c in (outer, inner, last) for a in c.arrays]
    )
    np.testing.assert_allclose(result(model, X), np.stack(want), rtol=2e-4, atol=1e-4)


def test_text_net(tmp_path: Path) -> None:
    """A small copy of Darknet's char nets: the sequence stays (time, batch, values) to the end."""
    p, out = parts("wi wf wo wg ui uf uo ug", True), Connected(9, H, F, False)
    cfg = f"{NET}[lstm]\noutput={H}\nbatch_normalize=1\n[dropout]\nprobability=.3\n"
    cfg += f"[connected]\noutput={F}\nactivation=leaky\n"
    model = convert(tmp_path, cfg + "[softmax]\n[cost]\ntype=sse\n", [*flat("wi wf wo wg ui uf uo ug", p), *out.arrays])
    got = result(model, X)
    assert got.shape == (T, N, F)
    np.testing.assert_allclose(got.sum(2), 1, atol=1e-5)
    np.testing.assert_allclose(result(model, X[:, :1]), got[:, :1], atol=1e-6)
    np.testing.assert_allclose(result(model, X[:2]), got[:2], atol=1e-6)


def test_picture_net_with_time_steps(tmp_path: Path) -> None:
    """With a picture as input, rows are time_steps x batch, as Darknet lays them out."""
    p = parts("wi wf wo wg ui uf uo ug", False)
    cfg = f"[net]\nheight=1\nwidth={F}\nchannels=1\ntime_steps={T}\n[lstm]\noutput={H}\n"
    rows = X.reshape(T * N, 1, 1, F)
    got = result(convert(tmp_path, cfg, flat("wi wf wo wg ui uf uo ug", p)), rows)
    cfg = f"{NET}[lstm]\noutput={H}\n"
    want = result(convert(tmp_path, cfg, flat("wi wf wo wg ui uf uo ug", p)), X)
    np.testing.assert_allclose(got.reshape(T, N, H), want, atol=1e-6)
