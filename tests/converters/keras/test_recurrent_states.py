"""Stateful layers, cuDNN's and Keras 1's weights: what the usual cases cannot make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from tests.converters.keras.oracle import Keras, in_memory, session

RNG = np.random.default_rng(11)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """That of Keras 1 and 2."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def lstm(
    x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, gate: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Outputs of all steps; gates i f c o side by side."""
    h = c = np.zeros((x.shape[0], recurrent.shape[0]))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, 1)


def gru(
    x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, gate: Callable[[np.ndarray], np.ndarray],
    inner: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Outputs of all steps; gates z r h. ``inner`` is the recurrent bias of the form that resets afterwards."""
    units = recurrent.shape[0]
    h = np.zeros((x.shape[0], units))
    out = []
    for t in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, t] @ kernel + bias, 3, axis=1)
        hz, hr, hh = np.split(h @ recurrent + (0 if inner is None else inner), 3, axis=1)
        z, r = gate(xz + hz), gate(xr + hr)
        new = np.tanh(xh + (r * hh if inner is not None else (r * h) @ recurrent[:, 2 * units :]))
        h = z * h + (1 - z) * new
        out.append(h)
    return np.stack(out, 1)


def run(
    path: Path, version: str, kind: str, config: dict[str, Any], weights: list[np.ndarray], x: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Write a Sequential of one layer as an old Keras would, convert it, run it."""
    settings = {"name": "l", "batch_input_shape": [None, *x.shape[1:]], **config}
    model = {"class_name": "Sequential", "config": [{"class_name": kind, "config": settings}]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        file.attrs["keras_version"], file.attrs["backend"] = version.encode(), b"tensorflow"
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = [b"l"]
        group = top.create_group("l")
        group.attrs["weight_names"] = [f"l_{i}".encode() for i in range(len(weights))]
        for i, array in enumerate(weights):
            group[f"l_{i}"] = array
    proto = in_memory(read(path, ReadOptions()))
    runner = session(proto)
    out = runner.run(None, {runner.get_inputs()[0].name: x})[0]
    return np.asarray(out), [n.op_type for n in proto.graph.node]


def values(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) * 0.6).astype(np.float32)


X = values(3, 5, 2)


def close(made: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(made - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("consume", ["cpu", "mem", "gpu"])
def test_keras1_lstm(tmp_path: Path, consume: str) -> None:
    kernel, recurrent, bias = values(2, 16), values(4, 16), values(16)
    split = {g: i for i, g in enumerate("ifco")}
    weights = [
        np.split(a, 4, axis=-1)[split[g]] for g in "icfo" for a in (kernel, recurrent, bias)
    ] if consume != "gpu" else [kernel, recurrent, bias]  # fmt: skip
    config = {
        "output_dim": 4,
        "inner_activation": "hard_sigmoid",
        "activation": "tanh",
        "return_sequences": True,
        "consume_less": consume,
        "dropout_W": 0.1,
    }
    out, ops = run(tmp_path / "m.h5", "1.2.2", "LSTM", config, weights, X)
    close(out, lstm(X, kernel, recurrent, bias, hard_sigmoid))
    assert ops.count("LSTM") == 1


def test_keras1_gru(tmp_path: Path) -> None:
    kernel, recurrent, bias = values(2, 12), values(4, 12), values(12)
    weights = [np.split(a, 3, axis=-1)[i] for i in range(3) for a in (kernel, recurrent, bias)]
    config = {"output_dim": 4, "inner_activation": "hard_sigmoid", "activation": "tanh", "return_sequences": True}
    out, ops = run(tmp_path / "m.h5", "1.2.2", "GRU", config, weights, X)
    close(out, gru(X, kernel, recurrent, bias, hard_sigmoid))
    assert ops.count("GRU") == 1


def test_old_keras2_gru_resets_before(tmp_path: Path) -> None:
    """Keras 2.0 knew no reset_after, and its gates were hard_sigmoid."""
    kernel, recurrent, bias = values(2, 12), values(4, 12), values(12)
    out, _ = run(
        tmp_path / "m.h5", "2.0.6", "GRU", {"units": 4, "return_sequences": True}, [kernel, recurrent, bias], X
    )
    close(out, gru(X, kernel, recurrent, bias, hard_sigmoid))


def test_keras1_conv_lstm(tmp_path: Path) -> None:
    """The single gates, joined, are what Keras 2 keeps side by side."""
    x = values(2, 4, 5, 4, 3)
    kernels = [values(3, 3, 3, 2), values(3, 3, 2, 2), values(2)]
    joined = [np.concatenate([a * k for k in (1, 2, 3, 4)], -1) for a in kernels]  # i f c o
    single = [a * k for k in (1, 3, 2, 4) for a in kernels]  # i c f o
    old, _ = run(
        tmp_path / "old.h5", "1.2.2", "ConvLSTM2D",
        {"nb_filter": 2, "nb_row": 3, "nb_col": 3, "border_mode": "same", "inner_activation": "hard_sigmoid"}, single, x,
    )  # fmt: skip
    new, _ = run(
        tmp_path / "new.h5", "2.2.4", "ConvLSTM2D",
        {"filters": 2, "kernel_size": [3, 3], "padding": "same", "recurrent_activation": "hard_sigmoid"}, joined, x,
    )  # fmt: skip
    close(old, new)


def as_cudnn(matrix: np.ndarray, gates: int) -> np.ndarray:
    """The buffer that cuDNN reads as (units, rows) per gate, in the shape in which Keras holds it."""
    return np.concatenate([k.T.reshape(k.shape) for k in np.split(matrix, gates, axis=1)], axis=1)


def test_cudnn_lstm(tmp_path: Path) -> None:
    kernel, recurrent, bias = values(2, 16), values(4, 16), values(32)
    weights = [as_cudnn(kernel, 4), as_cudnn(recurrent, 4), bias]
    out, ops = run(tmp_path / "m.h5", "2.2.4", "CuDNNLSTM", {"units": 4, "return_sequences": True}, weights, X)
    close(out, lstm(X, kernel, recurrent, bias[:16] + bias[16:], sigmoid))
    assert ops.count("LSTM") == 1


def test_cudnn_gru(tmp_path: Path) -> None:
    kernel, recurrent, bias = values(2, 12), values(4, 12), values(24)
    weights = [as_cudnn(kernel, 3), as_cudnn(recurrent, 3), bias]
    out, ops = run(tmp_path / "m.h5", "2.2.4", "CuDNNGRU", {"units": 4, "return_sequences": True}, weights, X)
    close(out, gru(X, kernel, recurrent, bias[:12], sigmoid, bias[12:]))
    assert ops.count("GRU") == 1


def test_cudnn_weights_as_keras_loads_them(keras_of: Callable[[int], Keras], tmp_path: Path) -> None:
    """tf_keras turns a CuDNNLSTM's weights into an LSTM's when it loads them: its LSTM is the judge."""
    kernel, recurrent, bias = values(2, 16), values(4, 16), values(32)
    out, _ = run(tmp_path / "m.h5", "2.2.4", "CuDNNLSTM", {"units": 4}, [kernel, recurrent, bias], X)
    # (maker.py evaluates the expression: a model whose weights come from our file, then the output of a fixed input)
    keras = keras_of(2)
    np.save(tmp_path / "x.npy", X)
    model = (
        f"(lambda m: (m.load_weights({str(tmp_path / 'm.h5')!r}), "
        f"np.save({str(tmp_path / 'y.npy')!r}, m(np.load({str(tmp_path / 'x.npy')!r})).numpy()), m)[-1])"
        "(keras.Sequential([keras.Input((5, 2)), L.LSTM(4, name='l')]))"
    )
    keras.make(
        model=model, shapes=[[5, 2]], dtypes=["float32"], folder=str(tmp_path), seed=1, length=5, scale=1.0, low=0,
        high=2, zeros=False, nested=False,
    )  # fmt: skip
    close(out, np.load(tmp_path / "y.npy"))


STATEFUL = [
    "L.LSTM(4, stateful=True, return_sequences=True)",
    "L.GRU(4, stateful=True)",
    "L.Bidirectional(L.LSTM(4, stateful=True))",
    "L.ConvLSTM2D(2, 2, stateful=True, padding='same')",
    "L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(2)]), stateful=True)",
]


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("layer", STATEFUL)
def test_stateful(keras_of: Callable[[int], Keras], tmp_path: Path, layer: str, generation: int) -> None:
    """States handed from one run to the next give what one run over both halves gives in Keras."""
    keras = keras_of(generation)
    shape = (6, 3, 4, 2) if "Conv" in layer else (6, 3)
    x = values(2, *shape)
    np.save(tmp_path / "x.npy", x)
    source, target = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    size = f"batch_{'shape' if generation == 3 else 'input_shape'}"
    del size
    model = (
        f"(lambda m: ([w.assign(np.random.default_rng(3).uniform(-.7, .7, w.shape)) for w in m.weights], "
        f"m.save({str(tmp_path / 'kept.h5')!r}), m.save({str(tmp_path / 'kept.keras')!r}), "
        f"np.save({target!r}, np.stack([np.asarray(m(np.load({source!r})[:, :3])), "
        f"np.asarray(m(np.load({source!r})[:, 3:]))])), keras.Model(x, L.Dense(2)(x)))[-1])"
        f"((lambda i: keras.Model(i, {layer}(i)))(keras.Input(batch_size=2, shape={(3, *shape[1:])})))"
    )
    keras.make(
        model=model, shapes=[[3]], dtypes=["float32"], folder=str(tmp_path), seed=1, length=5, scale=1.0, low=0, high=2,
        zeros=False, nested=False,
    )  # fmt: skip
    wanted = np.load(target)
    for name in ("kept.h5", "kept.keras"):
        read_model = read(tmp_path / name, ReadOptions(batch=2))
        runner = session(in_memory(read_model))
        close(two_runs(runner, x), wanted)


def two_runs(runner: onnxruntime.InferenceSession, x: np.ndarray) -> np.ndarray:
    first, *states = runner.get_inputs()
    outputs = [o.name for o in runner.get_outputs()]
    assert [f"{s.name}_out" for s in states] == outputs[1:]
    feed: dict[str, np.ndarray] = {s.name: np.zeros(s.shape, np.float32) for s in states}
    found: list[np.ndarray] = []
    for half in (x[:, :3], x[:, 3:]):
        made = [np.asarray(v) for v in runner.run(None, {first.name: half, **feed})]
        found.append(made[0])
        feed = {s.name: v for s, v in zip(states, made[1:], strict=True)}
    return np.stack(found)
