"""Families of networks as torch modules and as source alone: outputs, learnables and ties as the source's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netferry import api
from netferry.schemas.model import Model
from tests.converters.caffe.conformance import Runner
from tests.converters.caffe.conformance import case as caffe_case
from tests.converters.caffe.test_conformance import cases as caffe_cases
from tests.converters.keras.oracle import Case, Keras
from tests.converters.keras.test_applications import BOTH, KERAS2_ONLY
from tests.converters.keras.test_peer_baseline import MODELS
from tests.runtime.torch.alone import Alone
from tests.shared import shared

QUICK = {"conv-pool-flatten-dense", "bilstm", "nested-shared", "multi-head-attention"}
"""rows of the peers' networks that run always"""
Arrays = dict[str, np.ndarray]


def _close(got: torch.Tensor, want: np.ndarray, tolerance: float) -> float:
    """Compare; returns the largest difference, relative to the largest value."""
    assert tuple(got.shape) == want.shape
    if want.dtype.kind != "f" or want.size == 0:
        assert np.array_equal(got.numpy(), want)
        return 0.0
    finite = np.isfinite(want)
    assert np.array_equal(np.isfinite(got.numpy()), finite)
    largest = max(float(np.abs(want[finite]).max(initial=0)), 1e-6)
    apart = float(np.abs(got.numpy() - want)[finite].max(initial=0)) / largest
    assert apart <= tolerance
    return apart


def agrees(
    alone: Alone, model: Model, folder: Path, runs: list[Arrays], tolerance: float = 1e-5
) -> torch.fx.GraphModule:
    """The module and its source give onnxruntime's outputs for all inputs."""
    module = api.to_torch(model).eval()
    api.export(model, folder, to="torch-source", check="none")
    names = [i.name for i in model.inputs]
    given = [[torch.from_numpy(np.array(run[n])) for n in names] for run in runs]
    wanted = [[r[o.name] for o in model.outputs] for r in map(Runner(model).run, runs)]
    with torch.no_grad():
        made = [module(*feeds) for feeds in given]
    written = alone.run(folder, given)
    apart = [0.0, 0.0]
    for got, source, want in zip(made, written, wanted, strict=True):
        for a, b, c in zip(got if isinstance(got, tuple) else (got,), source, want, strict=True):
            apart = [max(apart[0], _close(a, c, tolerance)), max(apart[1], _close(b, c, tolerance))]
    print(f"{apart[0]:.1e} apart as a module, {apart[1]:.1e} as source; {tolerance:.1e} is allowed")
    return module


def _of_keras(folder: Path, model: Model) -> list[Arrays]:
    arrays = dict(np.load(folder / "case.npz"))
    return [{put.name: arrays[f"{b}:in{i}"] for i, put in enumerate(model.inputs)} for b in (1, 3)]


@pytest.mark.parametrize(
    ("expression", "shapes", "options"),
    [
        pytest.param(
            row.values[0], row.values[1], row.values[3], id=row.id, marks=() if row.id in QUICK else pytest.mark.slow
        )
        for row in MODELS
    ],
)  # fmt: skip
def test_peer_network(
    case3: Case, alone: Alone, expression: str, shapes: list[Any], options: dict[str, Any], tmp_path: Path
) -> None:
    given = {"dtypes": ("float32",) * len(shapes), "scale": 2.0, "low": 0, "high": 8, "zeros": False, **options}
    given.pop("tolerance", None)
    facts = case3.keras.make(
        model=expression, shapes=shapes, folder=str(tmp_path), seed=7, length=6, one_file=True, **given
    )
    model = api.load(tmp_path / "model.h5")
    module = agrees(alone, model, tmp_path / "net", _of_keras(tmp_path, model))
    assert sum(p.numel() for p in module.parameters()) == facts["learnable"]
    state = [b for n, b in module.state_dict().items() if n not in dict(module.named_parameters())]
    assert sum(b.numel() for b in state if b.is_floating_point()) == facts["state"]


def test_tied_keras_layers_train_as_one(case3: Case, tmp_path: Path) -> None:
    """A shared submodel has one set of parameters; a step changes both of its uses alike."""
    row = next(r for r in MODELS if r.id == "nested-shared")
    case3.keras.make(
        model=row.values[0], shapes=row.values[1], dtypes=["float32"] * 2, folder=str(tmp_path), seed=7, length=6,
        scale=2.0, low=0, high=8, zeros=False, one_file=True,
    )  # fmt: skip
    model = api.load(tmp_path / "model.h5")
    module = api.to_torch(model).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    a, b = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    module(a, b).square().mean().backward()
    optimizer.step()
    assert model.update_from(module)
    assert len(list(module.parameters())) == 4
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(a, b), module(b, a))


@pytest.mark.slow
@pytest.mark.parametrize("generation", [pytest.param(2, id="keras2"), pytest.param(3, id="keras3")])
@pytest.mark.parametrize(("name", "size", "scale"), [*BOTH, *KERAS2_ONLY])
def test_application(
    keras_of: Callable[[int], Keras], alone: Alone, generation: int, name: str, size: tuple[int, int], scale: float,
    tmp_path: Path,
) -> None:  # fmt: skip
    if generation == 3 and name.startswith(("RegNet", "ResNetRS")):
        pytest.skip("Keras 3 has no such network")
    facts = keras_of(generation).make(
        model=f"keras.applications.{name}(weights=None, input_shape={(*size, 3)!r}, classifier_activation=None)",
        shapes=[(*size, 3)], dtypes=["float32"], seed=3, length=96, folder=str(tmp_path), scale=scale, low=0, high=8,
        zeros=False, calibrate=True, one_file=True,
    )  # fmt: skip
    model = api.load(tmp_path / "model.h5")
    module = agrees(alone, model, tmp_path / "net", _of_keras(tmp_path, model))
    assert sum(p.numel() for p in module.parameters()) == facts["learnable"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", caffe_cases())
def test_caffe_network(alone: Alone, name: str, tmp_path: Path) -> None:
    one = caffe_case(shared("conformance", "caffe", name))
    model = one.convert()
    feeds = one.inputs
    agrees(alone, model, tmp_path / "net", [{i.name: feeds[i.name] for i in model.inputs}])
