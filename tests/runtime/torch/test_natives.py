"""ResNet50, MobileNetV2, DenseNet121 through ONNX and back: names, outputs and one training step as the native's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.torch_natives import NATIVES, as_onnx
from netferry import api


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(NATIVES))
def test_the_same_operators_as_often(name: str, tmp_path: Path) -> None:
    """A training step asks torch for what the native class asks for: what costs time is the same."""
    native = NATIVES[name](10)
    path = tmp_path / "net.onnx"
    path.write_bytes(as_onnx(native))
    module = api.to_torch(api.load(path))
    assert {type(m) for m in module.modules()} <= {type(m) for m in native.modules()} | {type(module), nn.Module}
    x, target = torch.randn(2, 3, 64, 64), torch.arange(2)
    counts = []
    for one in (module.train(), native.train()):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            nn.functional.cross_entropy(one(x), target).backward()
        heavy = (
            "convolution",
            "batch_norm",
            "clamp",
            "relu",
            "hardtanh",
            "pool",
            "cat",
            "copy_",
            "add",
            "mul",
            "div",
            "mm",
        )
        counts.append({e.key: e.count for e in found.key_averages() if any(word in e.key for word in heavy)})
    assert counts[0] == counts[1]


NORMS = {"resnet50": 53, "mobilenet_v2": 52, "densenet121": 121}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(NATIVES))
def test_training_step_equals_the_natives(name: str, tmp_path: Path) -> None:
    """Gradients within 1e-4 of the largest of each tensor, in float64: what is compared is the step, not rounding."""
    torch.manual_seed(0)
    native = NATIVES[name](10)
    path = tmp_path / "net.onnx"
    path.write_bytes(as_onnx(native))
    module = api.to_torch(api.load(path))
    assert sum(type(m) is nn.BatchNorm2d for m in module.modules()) == NORMS[name]
    assert set(dict(module.named_parameters())) == set(dict(native.named_parameters()))
    x, target = torch.randn(4, 3, 64, 64, dtype=torch.float64), torch.arange(4)
    sides = []
    for one in (module.double().train(), native.double().train()):
        for norm in one.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eps = 1e-5
        optimizer = torch.optim.SGD(one.parameters(), lr=0.01)
        loss = nn.functional.cross_entropy(one(x), target)
        loss.backward()
        gradients = {k: p.grad.clone() for k, p in one.named_parameters() if p.grad is not None}
        optimizer.step()
        sides.append((loss.detach(), gradients, {k: v.clone() for k, v in one.state_dict().items()}))
    (loss, ours, after), (want, theirs, wanted) = sides
    torch.testing.assert_close(loss, want, rtol=1e-8, atol=0)
    assert set(ours) == set(theirs)
    for key, gradient in theirs.items():
        assert (ours[key] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-12, key
    for key, value in wanted.items():
        torch.testing.assert_close(after[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("optimized", "norms"), [(False, 53), (True, 0)], ids=["as-it-is", "optimized-by-torch"])
def test_dynamo_export_of_resnet50(optimized: bool, norms: int, tmp_path: Path) -> None:
    """torch 2.13's exporter: convolutions are nn.Conv2d (it computes biases of zeros), batch norms stay unless it folds
    them; outputs within 1e-5 of the largest."""
    torch.manual_seed(0)
    native, batch = NATIVES["resnet50"](10).eval(), torch.export.Dim("batch")
    torch.onnx.export(
        native, (torch.zeros(2, 3, 64, 64),), tmp_path / "net.onnx", dynamo=True, optimize=optimized, verbose=False,
        dynamic_shapes=({0: batch},),
    )  # fmt: skip
    module = api.to_torch(api.load(tmp_path / "net.onnx")).eval()
    assert sum(type(m) is nn.BatchNorm2d for m in module.modules()) == norms
    assert sum(type(m) is nn.Conv2d for m in module.modules()) == 53
    assert "as_tensor" not in module.code
    if not optimized:
        assert set(module.state_dict()) == set(native.state_dict())
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        got, want = module(x), native(x)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
