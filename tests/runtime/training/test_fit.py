"""The loop: what moves and by how much, what stays, what is recorded, and going on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from netferry import TrainOptions
from netferry.errors import CheckFailed, DeviceError, MalformedFile, UsageError
from netferry.runtime.data.folder import ImageFolder
from netferry.runtime.training.batches import Order
from netferry.runtime.training.state import read_history
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of

Make = Callable[..., Model]


def values(model: Model) -> dict[str, np.ndarray]:
    return {n: np.array(array_of(v)) for n, v in model.parameters(None).items()}


def prepared(network: Make, train: str = "head", dropout: float = 0.2) -> Model:
    model = network(dropout).with_head(["across", "down", "none"], seed=3)
    if train == "head":
        model.freeze()
    return model


@pytest.mark.parametrize("trunk", ["cached", "no-grad", "plain"])
def test_what_is_frozen_stays_to_the_bit(network: Make, pictures: ImageFolder, trunk: str) -> None:
    model = prepared(network)
    before = values(model)
    train, validation, _ = pictures.split(seed=1)
    found = netferry.fit(model, train, validation, augment=None, epochs=2, trunk=trunk)
    assert (found["trunk"], found["changed"]) == (trunk, ["fc_w", "fc_b"])
    after = values(model)
    for name, array in before.items():
        same = array.tobytes() == after[name].tobytes()
        assert same == (name not in ("fc_w", "fc_b")), name


def test_the_three_ways_of_a_frozen_trunk_give_the_same(network: Make, pictures: ImageFolder) -> None:
    train, validation, _ = pictures.split(seed=1)
    found: dict[str, tuple[Any, dict[str, np.ndarray]]] = {}
    for trunk in ("cached", "no-grad", "plain"):
        model = prepared(network)
        report = netferry.fit(model, train, validation, augment=None, epochs=3, trunk=trunk, seed=5)
        found[trunk] = report["history"], values(model)
    for trunk in ("no-grad", "plain"):
        for a, b in zip(found["cached"][0], found[trunk][0], strict=True):
            assert a["training_loss"] == pytest.approx(b["training_loss"], abs=2e-5)
        for name, array in found["cached"][1].items():
            np.testing.assert_allclose(array, found[trunk][1][name], atol=2e-5, err_msg=name)


def test_statistics_move_only_where_they_are_free(network: Make, pictures: ImageFolder) -> None:
    model = prepared(network, "all")
    model.freeze(except_=["c2", "n2", "fc"])
    before = values(model)
    netferry.fit(model, pictures, augment=None, epochs=1)
    after = values(model)
    moved = {n for n in before if not np.array_equal(before[n], after[n])}
    assert moved == {"c2_w", "c2_b", "n2_s", "n2_o", "n2_m", "n2_v", "fc_w", "fc_b"} - _still(before, after)


def _still(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """A bias in front of a batch norm has a gradient of zero up to rounding."""
    return {"c2_b"} if np.array_equal(before["c2_b"], after["c2_b"]) else set()


@pytest.mark.parametrize("trunk", ["cached", "plain"])
def test_one_step_of_sgd_is_factor_times_rate_times_gradient(network: Make, pictures: ImageFolder, trunk: str) -> None:
    import torch

    model = prepared(network, dropout=0.0)
    model.set_lr_factor("fc", "weight", 10.0)
    model.set_lr_factor("fc", "bias", 0.5)
    module = model.to_torch(frozen_statistics=True)
    some = pictures.subset(range(12, 44))
    before, x = values(model), _tensors(model, some)
    module.train()
    logits = torch.log(module(torch.from_numpy(x)))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(some.targets)).backward()
    gradients = {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}
    netferry.fit(model, some, augment=None, optimizer="sgd", learning_rate=0.01, epochs=1, trunk=trunk, keep="last")
    after = values(model)
    for name, path, factor in (("fc_w", "fc.weight", 10.0), ("fc_b", "fc.bias", 0.5)):
        moved = before[name] - after[name]
        np.testing.assert_allclose(moved, factor * 0.01 * gradients[path], rtol=1e-4, atol=1e-7)


def _tensors(model: Model, pictures: Any) -> np.ndarray:
    from netferry.runtime.preprocess import preprocess

    return np.stack([preprocess(f, model.preprocessing["x"], (20, 20)) for f in pictures.files])


@pytest.mark.parametrize(
    ("count", "size", "epochs", "expected"),
    [
        pytest.param(60, 32, 4, [5, 8], id="last-is-validated"),
        pytest.param(60, 10, 2, [5, 10, 12], id="in-mid-epoch"),
        pytest.param(60, 60, 5, [5], id="whole-set-per-iteration"),
    ],
)
def test_validation_at_every_fifth_iteration_and_the_last(
    network: Make, pictures: ImageFolder, tmp_path: Path, count: int, size: int, epochs: int, expected: list[int]
) -> None:
    del count
    options = TrainOptions(batch_size=size, epochs=epochs)
    found = netferry.fit(prepared(network), pictures, pictures, augment=None, options=options, run=tmp_path)
    at = [r["iteration"] for r in found["history"] if r["validation_loss"] is not None]
    assert at == expected
    assert [r["iteration"] for r in found["history"]] == list(range(1, found["iterations"] + 1))
    assert read_history(tmp_path / "history.csv") == found["history"]


def test_the_same_seed_gives_the_same_weights(network: Make, pictures: ImageFolder) -> None:
    made: list[dict[str, np.ndarray]] = []
    for seed in (1, 1, 2):
        model = prepared(network, "all")
        netferry.fit(model, pictures, augment="flip,translate=3,rotate=5", epochs=2, seed=seed)
        made.append(values(model))
    assert all(np.array_equal(made[0][n], made[1][n]) for n in made[0])
    assert not np.array_equal(made[0]["fc_w"], made[2]["fc_w"])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [1, 5, 9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unfreeze_every": 2},
        {"new_head": True, "head_first": 2},
        {"mixup": 0.2, "accumulate": 2, "patience": 50},
    ],
)
def test_going_on_after_a_stop_gives_the_same_weights(
    network: Make, pictures: ImageFolder, tmp_path: Path, after: int, options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from netferry.runtime.training.fit import Fit

    train, validation, _ = pictures.split(seed=2)
    settings: dict[str, Any] = {"augment": "flip,translate=2", "epochs": 5, "batch_size": 16, "learning_rate": 1e-2}
    straight, stopped = prepared(network, "all"), prepared(network, "all")
    whole = netferry.fit(straight, train, validation, **settings, **options)
    move = Fit._move

    def killing(self: Fit, optimizer: Any, iteration: int) -> None:
        if iteration == after:
            raise Killed
        move(self, optimizer, iteration)

    monkeypatch.setattr(Fit, "_move", killing)
    with pytest.raises(Killed):
        netferry.fit(stopped, train, validation, run=tmp_path, **settings, **options)
    monkeypatch.setattr(Fit, "_move", move)
    (tmp_path / ".netferry-0123456789abcdef.tmp").write_bytes(b"left over")
    found = netferry.fit(stopped, train, validation, run=tmp_path, resume=True, **settings, **options)
    one, two = values(straight), values(stopped)
    assert [n for n in one if not np.array_equal(one[n], two[n])] == []
    without_clock = [[{k: v for k, v in r.items() if k != "seconds"} for r in f["history"]] for f in (whole, found)]
    assert without_clock[0] == without_clock[1]
    assert not list(tmp_path.glob(".netferry-*"))


def test_early_stopping_and_the_best_weights(network: Make, pictures: ImageFolder) -> None:
    train, validation, _ = pictures.split(seed=2)
    settings: dict[str, Any] = {"augment": None, "epochs": 40, "learning_rate": 0.3, "optimizer": "sgd", "patience": 3}
    best = prepared(network, "all")
    found = netferry.fit(best, train, validation, **settings)
    losses = {r["iteration"]: r["validation_loss"] for r in found["history"] if r["validation_loss"] is not None}
    assert found["iterations"] < 40 * 2
    assert found["kept_iteration"] == min(losses, key=lambda i: losses[i])
    assert min(list(losses.values())[-3:]) >= min(losses.values())
    last = prepared(network, "all")
    netferry.fit(last, train, validation, keep="last", **settings)
    assert not np.array_equal(values(best)["fc_w"], values(last)["fc_w"])


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"precision": "bf16"}, id="bf16"),
        pytest.param({"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup": 3}, id="adamw"),
        pytest.param({"optimizer": "sgd", "learning_rate": 0.05, "clip": 1.0, "schedule": "step"}, id="sgd-clip"),
        pytest.param({"class_weights": "balanced", "label_smoothing": 0.1}, id="weights-smoothing"),
        pytest.param({"class_weights": (1.0, 2.0, 1.0), "accumulate": 3, "batch_size": 8}, id="accumulated"),
        pytest.param({"mixup": 0.2}, id="mixup"),
        pytest.param({"unfreeze_every": 2, "layer_decay": 0.7}, id="gradual"),
    ],
)
def test_every_way_learns_the_stripes(network: Make, pictures: ImageFolder, settings: dict[str, Any]) -> None:
    train, validation, _ = pictures.split(seed=2)
    model = prepared(network, "all")
    chosen = {"learning_rate": 0.01, "epochs": 12, "batch_size": 16, **settings}
    found = netferry.fit(model, train, validation, augment=None, **chosen)
    assert max(r["validation_figure"] or 0 for r in found["history"]) >= 0.8


def test_accumulation_is_the_same_as_one_large_batch(network: Make, pictures: ImageFolder) -> None:
    made = []
    cases: list[dict[str, Any]] = [{"batch_size": 24}, {"batch_size": 8, "accumulate": 3}]
    for options in cases:
        model = prepared(network, dropout=0.0)
        netferry.fit(model, pictures, augment=None, epochs=3, class_weights=(1.0, 2.0, 3.0), **options)
        made.append(values(model))
    for name in made[0]:
        np.testing.assert_allclose(made[0][name], made[1][name], atol=1e-6, err_msg=name)


def test_gradual_unfreezing_frees_one_block_after_the_other(network: Make, pictures: ImageFolder) -> None:
    model = prepared(network, "all")
    found = netferry.fit(model, pictures, augment=None, epochs=6, unfreeze_every=1, layer_decay=0.5)
    phases = [r["phase"] for r in found["history"]]
    assert phases == sorted(phases)
    assert set(phases) == {0, 1, 2, 3, 4}  # head, n2, c2, n1, c1
    assert found["factors"]["fc_w"] == 10.0  # of the default rate 1e-4
    assert found["factors"]["c1_w"] == pytest.approx(0.5**4)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        pytest.param({"epochs": 0}, UsageError, "epochs", id="epochs"),
        pytest.param({"optimizer": "lion"}, UsageError, "adam, adamw, sgd", id="optimizer"),
        pytest.param({"learning_rate": -1.0}, UsageError, "learning_rate", id="rate"),
        pytest.param({"nothing": 1}, UsageError, "'nothing'", id="unknown"),
        pytest.param({"class_weights": (1.0,)}, UsageError, "class_weights", id="weights"),
        pytest.param({"loss": "mse"}, UsageError, "values", id="loss-of-values"),
        pytest.param({"trunk": "cached", "augment": "flip"}, UsageError, "cached", id="cached-and-augmented"),
        pytest.param({"device": "tpu"}, DeviceError, "tpu", id="device"),
        pytest.param({"learning_rate": 1e38, "optimizer": "sgd", "epochs": 9}, CheckFailed, "finite", id="diverges"),
    ],
)
def test_calls_that_cannot_be(
    network: Make, pictures: ImageFolder, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    settings = {"augment": None, "epochs": 1, **settings}
    with pytest.raises(error, match=words):
        netferry.fit(prepared(network), pictures, **settings)


def test_nothing_learns(network: Make, pictures: ImageFolder) -> None:
    model = prepared(network)
    model.freeze(except_=[])
    with pytest.raises(UsageError, match="nothing learns"):
        netferry.fit(model, pictures)


def test_a_damaged_checkpoint_is_said_to_be(network: Make, pictures: ImageFolder, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(MalformedFile, match="no checkpoint"):
        netferry.fit(prepared(network), pictures, run=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        pytest.param(10, 4, [4, 4, 2], id="rest"),
        pytest.param(9, 4, [4, 5], id="one-left-over-joins"),
        pytest.param(1, 4, [1], id="one"),
        pytest.param(4, 4, [4], id="exact"),
        pytest.param(3, 10, [3], id="fewer"),
    ],
)
def test_iterations_of_an_epoch(count: int, size: int, sizes: list[int]) -> None:
    order = Order(count, size, 7)
    for epoch in range(2):
        rows = [order.rows(epoch * order.per_epoch + i) for i in range(order.per_epoch)]
        assert [len(r) for r in rows] == sizes
        assert sorted(np.concatenate(rows).tolist()) == list(range(count))
    if count > 4:
        assert order.rows(0).tolist() != order.rows(order.per_epoch).tolist()
