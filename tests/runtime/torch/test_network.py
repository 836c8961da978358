"""The code of a network is written when it is asked for, by whoever asks first."""

from __future__ import annotations

import copy
import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

from netferry.api import to_torch
from netferry.runtime.torch.network import Network
from tests.runtime.torch.graphs import model_of

PLAIN = """g (float[N, 3, H, W] x) => (float[N, 4, 1, 1] y) {
  c = Conv (x, w, b)  r = Relu (c)  y = GlobalAveragePool (r) }"""


def fresh() -> Any:
    """A network that nobody has asked anything yet."""
    return to_torch(model_of(PLAIN, {"w": (4, 3, 3, 3), "b": (4,)})).eval()


def image() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Around(nn.Module):
    """A module that holds a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="aot_eager", fullgraph=True)


def exported(module: nn.Module) -> Any:
    return torch.export.export(module, (image(),)).module()


def scripted(module: nn.Module) -> Any:
    return torch.jit.script(module)


def traced(module: nn.Module) -> Any:
    return torch.jit.trace(module, image())


ASKS: list[Any] = [
    pytest.param(lambda m: m, id="call"),
    pytest.param(lambda m: m.forward, id="forward"),
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(fx.symbolic_trace, id="symbolic_trace"),
    pytest.param(lambda m: fx.symbolic_trace(nn.Sequential(m)), id="symbolic_trace-around"),
    pytest.param(lambda m: fx.Interpreter(m).run, id="interpreter"),
    pytest.param(lambda m: lambda x: torch.func.functional_call(m, dict(m.state_dict()), (x,)), id="functional_call"),
    *(
        pytest.param(ask, id=ask.__name__, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])
        for ask in (compiled, exported, scripted, traced)
    ),
    *(
        pytest.param(
            lambda m, ask=ask: ask(Around(m).eval()),
            id=f"{ask.__name__}-around",
            marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")],
        )
        for ask in (compiled, exported, scripted, traced)
    ),
]


@pytest.mark.parametrize("ask", ASKS)
def test_whoever_asks_first_gets_the_network(ask: Callable[[Any], Callable[[torch.Tensor], torch.Tensor]]) -> None:
    expected = fresh()(image())
    module = fresh()
    assert "_code" not in vars(module)
    torch.testing.assert_close(ask(module)(image()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(lambda m: m.code, id="code"),
        pytest.param(str, id="str"),
        pytest.param(lambda m: m.print_readable(print_output=False), id="readable"),
        pytest.param(lambda m: f"{inspect.signature(m.forward)} def forward", id="signature"),
        pytest.param(lambda m: f"self, {inspect.signature(type(m).forward)} def forward", id="class"),
    ],
)
def test_code_is_told(told: Callable[[Any], str]) -> None:
    assert "x" in told(fresh())
    assert "def forward" in told(fresh())


def test_an_edited_graph_is_the_one_that_runs() -> None:
    module = fresh()
    last = next(node for node in reversed(module.graph.nodes) if node.op == "call_module")
    last.replace_all_uses_with(last.args[0])
    module.graph.erase_node(last)
    assert module(image()).shape == (2, 4, 6, 6)


def test_a_forward_of_ones_own_stays() -> None:
    module = fresh()
    module.forward = lambda x: x * 0
    assert not module(image()).any()


def test_no_circle_keeps_a_network() -> None:
    """Nor one that was never asked: weights are freed at once."""
    gc.disable()
    try:
        for ask in (lambda m: None, lambda m: m(image())):
            module = fresh()
            seen = weakref.ref(module)
            ask(module)
            del module
            assert seen() is None
    finally:
        gc.enable()


def test_an_empty_graph_has_no_code() -> None:
    with pytest.raises(AttributeError):
        Network(nn.Module(), fx.Graph()).forward  # noqa: B018


def test_no_layer_is_hidden_by_what_a_network_has() -> None:
    """Names of layers lose underscores at their beginning, and those of a GraphModule are taken (Paths)."""
    assert {name for name in dir(Network) if not name.startswith("_")} <= set(dir(fx.GraphModule))
