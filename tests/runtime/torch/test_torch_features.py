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
@pytest.mark.parametrize("mode", [pytest.param(True, id="train"), pytest.param(False, id="frozen")])
def test_trains_compiled_as_it_trains_eagerly(mode: bool) -> None:
    """Two steps: losses, parameters, running statistics and counted batches; frozen statistics stay."""
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    eager = to_torch(convnet(), frozen_statistics=not mode).train()
    plain, before = copy.deepcopy(eager), copy.deepcopy(eager.state_dict())
    losses = []
    for module, call in (
        (eager, eager),
        (plain, torch.compile(plain, backend="aot_eager", fullgraph=True)),
    ):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = call(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    torch._dynamo.reset()
    torch.testing.assert_close(losses[2:], losses[:2])
    after = eager.state_dict()
    torch.testing.assert_close(plain.state_dict(), after)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[f"block.bn.{name}"], before[f"block.bn.{name}"]) is not mode
    assert not torch.equal(after["block.conv1.weight"], before["block.conv1.weight"])


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


def _torchs_own_computes(make, dtype: torch.dtype) -> bool:
    """Whether torch's own layer trains in half precision on this processor: its LSTM has no float16 on many."""
    if make is not lstm:
        return True
    try:
        with torch.autocast("cpu", dtype=dtype):
            torch.nn.LSTM(3, 5)(torch.zeros(6, 2, 3))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.05), (torch.float16, 0.006)], ids=["bf16", "fp16"])
@pytest.mark.parametrize(("make", "x"), NETS)
def test_autocast_and_half(make, x: torch.Tensor, dtype: torch.dtype, apart: float) -> None:
    """Outputs, and the gradients of a step, as in float32 but for the rounding of the half type."""
    if not _torchs_own_computes(make, dtype):
        pytest.skip(f"torch's own nn.LSTM does not train in {dtype} on this processor")
    module = to_torch(make())
    gradients = []
    for half in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=half):
            loss = module(x).float().square().mean()
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    assert {g.dtype for g in gradients[1].values()} == {torch.float32}
    largest = max(float(g.abs().max()) for g in gradients[0].values())
    for name, want in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], want, rtol=0, atol=2 * apart * largest)
    module.eval()
    with torch.no_grad():
        want = module(x)
        with torch.autocast("cpu", dtype=dtype):
            torch.testing.assert_close(module(x).float(), want, rtol=apart, atol=apart)
        made = copy.deepcopy(module).to(dtype)(x.to(dtype))
    assert made.dtype is dtype
    torch.testing.assert_close(made.float(), want, rtol=2 * apart, atol=2 * apart)


def test_masked_rows_are_finite_in_float16() -> None:
    """Scores that a mask replaces by -1e9, all of a row too, as Keras's attention does: no infinities by autocast."""
    text = """g (float[N, 4] x, bool[N, 4] m) => (float[N, 4] y) <float low = {-1e9}> {
      s = MatMul (x, w)  t = Where (m, s, low)  y = Softmax (t) }"""
    module = to_torch(model_of(text, {"w": (4, 4)})).eval()
    x, mask = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([[True] * 4, [False] * 4])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        made = module(x, mask)
    torch.testing.assert_close(made.float(), module(x, mask), rtol=0, atol=0.01)
    torch.testing.assert_close(made[1].float(), torch.full((4,), 0.25))


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


@pytest.mark.parametrize("training", [pytest.param(False, id="eval"), pytest.param(True, id="train")])
def test_channels_last(training: bool) -> None:
    """Outputs, gradients and statistics as with channels first; layers hand the layout on."""
    model, layout = convnet(), torch.channels_last
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    first, last = (to_torch(model).train(training) for _ in range(2))
    last.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    kept: list[bool] = []
    for name in ("block.conv1", "block.bn", "relu", "conv2", "pool"):
        last.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, made: kept.append(made.is_contiguous(memory_format=layout))
        )
    want, made = first(x), last(x.to(memory_format=layout))
    assert kept == [True] * 5
    torch.testing.assert_close(made, want, rtol=1e-5, atol=1e-6)
    want.square().mean().backward()
    made.square().mean().backward()
    for a, b in zip(last.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(last.state_dict(), first.state_dict(), rtol=1e-5, atol=1e-6)


def test_nothing_is_read_back_from_the_device() -> None:
    """No value leaves the device: on torch's meta device there is none to read."""
    module = to_torch(convnet()).eval().to("meta")
    assert module(torch.empty(5, 3, 12, 12, device="meta")).shape == (5, 5)


def test_deep_copies_train_alone() -> None:
    """Ties stay ties in a copy; what it learns stays its own."""
    text = """g (int64[N] i) => (float[N, 9] y) { e = Gather (table, i)  y = Gemm <transB = 1> (e, table) }"""
    for model, x in ((convnet(), torch.randn(3, 3, 12, 12)), (model_of(text, {"table": (9, 4)}), torch.tensor([1, 5]))):
        module = to_torch(model).train()
        before = {k: v.clone() for k, v in module.state_dict().items()}
        copied = copy.deepcopy(module)
        assert list(copied.state_dict()) == list(before)
        assert [n for n, _ in copied.named_parameters()] == [n for n, _ in module.named_parameters()]
        assert copied.code == module.code
        optimizer = torch.optim.SGD(copied.parameters(), lr=0.1)
        copied(x).square().mean().backward()
        optimizer.step()
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
        assert not any(torch.equal(p, before[n]) for n, p in copied.named_parameters() if p.dim() > 1)


def test_copies_keep_constants_out_of_the_state() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) <float[4] mean = {1, 2, 3, 4}> { y = Sub (x, mean) }"""
    assert not copy.deepcopy(to_torch(model_of(text, {}))).state_dict()
