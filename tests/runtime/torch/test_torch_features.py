"""torch's own tools on our modules: compile without graph breaks, export with a dynamic batch, autocast, layouts."""

from __future__ import annotations

import copy

import pytest
import torch

from netferry.api import to_torch
from netferry.schemas.model import Model
from tests.runtime.torch.graphs import convnet, model_of

LSTM = """g (float[N, T, 3] x) => (float[N, 4] y) <int64[1] zero = {0}> {
  t = Transpose <perm = [1, 0, 2]> (x)  a, h = LSTM <hidden_size = 5> (t, w, r, b)
  s = Squeeze (h, zero)  m = MatMul (s, k)  y = Add (m, kb) }"""


def lstm() -> Model:
    """A recurrent layer with a dense one behind."""
    return model_of(LSTM, {"w": (1, 20, 3), "r": (1, 20, 5), "b": (1, 40), "k": (5, 4), "kb": (4,)})


NETS = [
    pytest.param(convnet, torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)), id="convnet"),
    pytest.param(lstm, torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)), id="lstm"),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "x"), NETS)
def test_compiles_whole(make, x: torch.Tensor) -> None:
    module = to_torch(make()).eval()
    with torch._dynamo.config.patch(allow_rnn=True), torch.no_grad():
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
        torch.testing.assert_close(compiled(x), module(x))
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "x"), NETS)
def test_exports_with_a_dynamic_batch(make, x: torch.Tensor) -> None:
    module = to_torch(make()).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    other = torch.cat([x, x, x])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), module(other))


@pytest.mark.parametrize(("make", "x"), NETS)
def test_autocast_and_half(make, x: torch.Tensor) -> None:
    module = to_torch(make()).eval()
    with torch.no_grad():
        want = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(module(x).float(), want, rtol=0.05, atol=0.05)
        half = copy.deepcopy(module).to(torch.bfloat16)(x.to(torch.bfloat16))
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), want, rtol=0.1, atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "x"), NETS)
def test_data_parallel_trains_and_finds_the_way_back(make, x: torch.Tensor, tmp_path) -> None:
    """One process of DistributedDataParallel takes the step that the module alone takes."""
    model, other = make(), make()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        plain = to_torch(model)
        parallel = torch.nn.parallel.DistributedDataParallel(to_torch(other))
        for module in (plain, parallel):
            module(x).square().mean().backward()
            torch.optim.SGD(module.parameters(), lr=0.1).step()
        assert other.update_from(parallel) == model.update_from(plain)
        for a, b in zip(plain.parameters(), parallel.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    finally:
        torch.distributed.destroy_process_group()


def test_channels_last() -> None:
    module = to_torch(convnet()).eval()
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = module(x)
        made = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(made, want, rtol=1e-5, atol=1e-6)


def test_nothing_is_read_back_from_the_device() -> None:
    """No value leaves the device: on torch's meta device there is none to read."""
    module = to_torch(convnet()).eval().to("meta")
    assert module(torch.empty(5, 3, 12, 12, device="meta")).shape == (5, 5)


def test_copies_keep_constants_out_of_the_state() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) <float[4] mean = {1, 2, 3, 4}> { y = Sub (x, mean) }"""
    assert not copy.deepcopy(to_torch(model_of(text, {}))).state_dict()
