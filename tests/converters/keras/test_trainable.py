"""``trainable=False``: what does not learn in Keras does not learn here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import netferry
from tests.converters.keras.oracle import Case

ROWS = {
    "dense": ("L.Dense(2)(L.Dense(4, trainable=False)(x))", (3,), 2),
    "norm": ("L.Conv2D(3, 2)(L.BatchNormalization(trainable=False)(x))", (5, 6, 2), 4),
    "recurrent": ("L.Dense(2)(L.GRU(4, trainable=False)(x))", (5, 3), 3),
    "both-ways": ("L.Dense(2)(L.Bidirectional(L.LSTM(4, trainable=False))(x))", (5, 3), 3),
    "steps": ("L.Dense(2)(L.TimeDistributed(L.Dense(4, trainable=False))(x))", (5, 3), 2),
    "a-cell": ("L.Dense(2)(L.RNN(L.LSTMCell(4, trainable=False))(x))", (5, 3), 3),
    "one-cell-of-two": ("L.Dense(2)(L.RNN([L.GRUCell(4, trainable=False), L.LSTMCell(3)])(x))", (5, 3), 3),
    "all-learns": ("L.Dense(2)(L.Dense(4)(x))", (3,), 0),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_learns(case: Case, row: str) -> None:
    """The case itself counts what learns, in all ways of saving, against ``trainable_weights``."""
    model, shape, frozen = ROWS[row]
    found = case(model, shape).model
    assert len(found.frozen) == frozen
    told = [n.message for n in found.notes if "trainable=False" in n.message]
    assert len(told) == (frozen > 0)


AROUND = {
    "both-ways": ("L.Dense(2)(L.Bidirectional(L.LSTM(4), trainable=False)(x))", 3),
    "steps": ("L.Dense(2)(L.TimeDistributed(L.Dense(4), trainable=False)(x))", 2),
    "cell": ("L.Dense(2)(L.RNN(L.LSTMCell(4), trainable=False)(x))", 3),
    "cells": ("L.Dense(2)(L.RNN([L.GRUCell(4), L.LSTMCell(3)], trainable=False)(x))", 6),
}


@pytest.mark.parametrize("row", AROUND)
def test_what_is_around_others(case2: Case, case3: Case, row: str) -> None:
    """Keras 2 hands down what the layer around is made with, Keras 3 does not."""
    model, frozen = AROUND[row]
    assert len(case3(model, (5, 3)).model.frozen) == 0
    assert len(case2(model, (5, 3)).model.frozen) == frozen


def test_one_way_of_two(case2: Case, case3: Case) -> None:
    """Keras 2 gives both what the forward layer says."""
    model = "L.Bidirectional(L.LSTM(4, trainable=False), backward_layer=L.LSTM(4, go_backwards=True))(x)"
    assert len(case3(f"L.Dense(2)({model})", (5, 3)).model.frozen) == 3
    assert len(case2(f"L.Dense(2)({model})", (5, 3)).model.frozen) == 6


def chain(kind: str, name: str, *layers: dict[str, object], **settings: object) -> dict[str, object]:
    return {"class_name": kind, "config": {"name": name, "layers": list(layers), **settings}}


def dense(name: str, units: int, **settings: object) -> dict[str, object]:
    return {"class_name": "Dense", "config": {"name": name, "units": units, **settings}}


@pytest.mark.parametrize("sandbox", [False, True], ids=["here", "in-a-child"])
def test_a_model_inside(tmp_path: Path, sandbox: bool) -> None:
    """A frozen model freezes its layers, whatever they say; unfreeze() frees them."""
    start = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 3]}}
    base = chain("Sequential", "base", start, dense("a", 4, trainable=True), trainable=False)
    whole = chain("Sequential", "whole", start, base, dense("b", 2))
    (tmp_path / "net.json").write_text(json.dumps({**whole, "keras_version": "2.11.0", "backend": "tensorflow"}))
    model = netferry.load(tmp_path / "net.json", init=0, sandbox=sandbox)
    assert model.frozen == {"base/a.weight", "base/a.bias"}
    model.unfreeze()
    assert not model.frozen
