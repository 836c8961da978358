"""Recurrent modules read and give sequences as the network has them: no swaps of axes, no zero states around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from netferry import api
from netferry.schemas.layers import ROLE
from netferry.schemas.model import Model
from tests.runtime.torch.alone import Alone
from tests.runtime.torch.graphs import model_of
from tests.runtime.torch.test_families import agrees

ZEROS = """
  s = Shape (x)  n = Gather <axis = 0> (s, batch)  n1 = Unsqueeze (n, zero)  q0 = Concat <axis = 0> (d, n1, five)
  h0 = ConstantOfShape (q0)"""
"""a first state as torch's TorchScript exporter writes it"""
EXPANDED = """
  s = Shape <start = 0, end = 1> (x)  q0 = Concat <axis = 0> (d, s, five)  e = Expand (nought, q0)
  h0 = Slice (e, zero, d, zero)"""
"""and as the dynamo exporter does"""
TURNED = "  t = Transpose <perm = [1, 0, 2]> (x)"
SQUEEZED = "  z = Squeeze (o, one)  y = Transpose <perm = [1, 0, 2]> (z)"
MERGED = """
  u = Transpose <perm = [0, 2, 1, 3]> (o)  z = Reshape (u, keep)  y = Transpose <perm = [1, 0, 2]> (z)"""
COUNTED = """
  u = Transpose <perm = [0, 2, 1, 3]> (o)  v = Shape (u)  v0 = Slice (v, zero, one)  v1 = Slice (v, one, two)
  v2 = Slice (v, two, three)  v3 = Slice (v, three, four)  m = Mul (v2, v3)  r1 = Reshape (m, minus)
  k = Concat <axis = 0> (v0, v1, r1)  z = Reshape (u, k)  y = Transpose <perm = [1, 0, 2]> (z)"""
CONSTANTS = """<int64 batch = {0}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3},
  int64[1] four = {4}, int64[1] five = {5}, int64[1] minus = {-1}, int64[3] keep = {0, 0, -1},
  int64[3] other = {0, 5, -1}, int64[3] baked = {6, 2, 5}, float nought = {0}, float half = {0.5}, int64 last = {-1},
  int64[1] end = {9223372036854775807}, float[1, 5] start = {0, 0, 0, 0, 0}, int64[3] sizes = {1, 1, 5},
  int64[1] d = {%d}>"""
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def network(op: str, direction: str, body: str, *, outputs: str, batch_first: bool = True, sizes: str = "") -> Model:
    """A recurrent node with what stands around it; ``NODE`` in ``body`` is the node up to its inputs."""
    d, n = (2 if direction == "bidirectional" else 1), GATES[op]
    node = f'{op} <hidden_size = 5, direction = "{direction}"{", linear_before_reset = 1" if op == "GRU" else ""}>'
    shape = sizes or ("N, T" if batch_first else "T, N")
    text = f"g (float[{shape}, 3] x) => ({outputs}) {CONSTANTS % d} {{ {body.replace('NODE', node)} }}"
    return model_of(text, {"w": (d, n * 5, 3), "r": (d, n * 5, 5), "b": (d, 2 * n * 5)}, {"o": "rnn"})


def checked(alone: Alone, model: Model, folder: Path) -> tuple[torch.fx.GraphModule, list[str]]:
    """The module, which agrees with onnxruntime on two sizes, as source too; and the functions that it calls."""
    rng = np.random.default_rng(5)
    runs = [{"x": rng.normal(size=size).astype(np.float32)} for size in ((4, 6, 3), (2, 3, 3))]
    module = agrees(alone, model, folder, runs)
    return module, [n.target.__name__ for n in module.graph.nodes if n.op == "call_function"]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize(
    ("state", "behind"),
    [
        pytest.param("", MERGED, id="merged"),
        pytest.param(ZEROS, MERGED, id="zeros-by-shape"),
        pytest.param(EXPANDED, COUNTED, id="zeros-expanded-counted"),
        pytest.param(ZEROS, SQUEEZED, id="squeezed"),
    ],
)
def test_batch_first(alone: Alone, op: str, direction: str, state: str, behind: str, tmp_path: Path) -> None:
    both = direction == "bidirectional"
    if both and behind is SQUEEZED:
        pytest.skip("two directions cannot be squeezed")
    first = "" if not state else ", , h0, h0" if op == "LSTM" else ", , h0"
    body = f"{state}{TURNED}  o, h = NODE (t, w, r, b{first}){behind}  hy = Identity (h)"
    d = 2 if both else 1
    model = network(op, direction, body, outputs=f"float[N, T, {5 * d}] y, float[{d}, N, 5] hy")
    module, calls = checked(alone, model, tmp_path)
    assert module.rnn.batch_first  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    assert set(calls) <= {"getitem", "reversed_input", "Identity"}


@pytest.mark.parametrize(
    ("body", "outputs", "calls"),
    [
        pytest.param(
            "o = NODE (x, w, r, b)  y = Squeeze (o, one)", "float[T, N, 5] y", {"getitem"}, id="time-first-all-along"
        ),
        pytest.param(
            "o = NODE (x, w, r, b)  z = Squeeze (o, one)  y = Transpose <perm = [1, 0, 2]> (z)", "float[N, T, 5] y",
            {"getitem", "Transpose"}, id="turned-behind-only",
        ),
        pytest.param(
            "o = NODE (x, w, r, b)  z = Squeeze (o, one)  y = Transpose <perm = [1, 0, 2]> (z)  p = Relu (z)",
            "float[N, T, 5] y, float[T, N, 5] p", {"getitem", "Transpose", "Relu"}, id="read-in-both-orders",
        ),
        pytest.param(
            "o = NODE (x, w, r, b)  z = Squeeze (o, one)  p = Relu (o)",
            "float[T, N, 5] z, float[T, 1, N, 5] p", {"recurrent_outputs", "getitem", "Squeeze", "Relu"},
            id="y-read-twice",
        ),
        pytest.param(
            "o = NODE (x, w, r, b)  u = Transpose <perm = [0, 2, 1, 3]> (o)  y = Reshape (u, other)",
            "float[T, 5, M] y", {"recurrent_outputs", "getitem", "Transpose", "Reshape"}, id="merged-otherwise",
        ),
        pytest.param(
            "o = NODE (x, w, r, b)  u = Transpose <perm = [0, 2, 1, 3]> (o)  v = Shape (u)  q = Cast <to = 1> (v)"
            "  y = Reshape (u, keep)",
            "float[T, N, 5] y, float[4] q", {"recurrent_outputs", "getitem", "Transpose", "Reshape", "shape",
            "as_tensor", "cast"}, id="sizes-read-elsewhere",
        ),
        pytest.param(
            "o, h, c = NODE (x, w, r, b)  y = Add (h, c)", "float[1, N, 5] y", {"getitem", "Add"}, id="states-alone"
        ),
    ],
)  # fmt: skip
def test_time_first(alone: Alone, body: str, outputs: str, calls: set[str], tmp_path: Path) -> None:
    module, found = checked(alone, network("LSTM", "forward", body, outputs=outputs, batch_first=False), tmp_path)
    assert not module.rnn.batch_first  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    assert set(found) <= calls


def test_states_of_a_turned_sequence(alone: Alone, tmp_path: Path) -> None:
    """The last step alone (Keras's return_sequences=False): the module reads batch first, its states lie as ever."""
    body = TURNED + "  o, h = NODE (t, w, r, b)  y = Squeeze (h, zero)"
    module, calls = checked(alone, network("GRU", "forward", body, outputs="float[N, 5] y"), tmp_path)
    assert next(m for m in module.modules() if isinstance(m, torch.nn.GRU)).batch_first
    assert "Transpose" not in calls


def test_a_first_state_that_is_not_zero_stays(alone: Alone, tmp_path: Path) -> None:
    body = EXPANDED.replace("nought", "half") + TURNED + "  o = NODE (t, w, r, b, , h0)" + MERGED
    model = network("GRU", "forward", body, outputs="float[N, T, 5] y")
    assert "recurrent_state" in checked(alone, model, tmp_path)[1]


def test_a_first_state_that_trains_stays() -> None:
    """Zeros that are recorded as learnable are no padding."""
    body = "h0 = Reshape (start, sizes)  o = NODE (x, w, r, b, , h0)"
    model = network("GRU", "forward", body, outputs="float[T, 1, 1, 5] o", batch_first=False)
    model.graph.initializers["start"].metadata_props[ROLE] = "learnable"
    assert "start" in dict(api.to_torch(model).named_parameters())


def test_two_layers_read_one_turned_sequence(alone: Alone, tmp_path: Path) -> None:
    body = TURNED + "  o = NODE (t, w, r, b)  z = Squeeze (o, one)  p = Transpose <perm = [1, 0, 2]> (z)"
    body += "  o2 = NODE (t, w, r, b)  z2 = Squeeze (o2, one)  q = Relu (z2)"
    model = network("LSTM", "forward", body, outputs="float[N, T, 5] p, float[T, N, 5] q")
    assert checked(alone, model, tmp_path)[1].count("Transpose") == 1


def test_fixed_sizes_are_merged_too() -> None:
    """An exporter that knows all sizes writes them into the Reshape; the batch is not kept from it."""
    body = TURNED + "  o = NODE (t, w, r, b)" + MERGED.replace("keep", "baked")
    model = network("LSTM", "forward", body, outputs="float[2, 6, 5] y", sizes="2, 6")
    module = api.to_torch(model)
    assert [n.target.__name__ for n in module.graph.nodes if n.op == "call_function"] == ["getitem"]
    assert module(torch.zeros(3, 4, 3)).shape == (3, 4, 5)


def test_a_slice_of_everything_is_nothing(alone: Alone, tmp_path: Path) -> None:
    """``x[:, -1]`` as torch's exporters write it."""
    body = TURNED + "  o = NODE (t, w, r, b)" + MERGED.replace("  y = ", "  a = ")
    body += "  c = Slice (a, zero, end, zero, one)  y = Gather <axis = 1> (c, last)"
    model = network("LSTM", "forward", body, outputs="float[N, 5] y")
    assert checked(alone, model, tmp_path)[1] == ["getitem", "Gather"]
