"""LSTM, GRU and RNN step by step: every setting that ONNX has. What torch.nn can say goes to its own modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.registry import op

Activation = Callable[[Tensor], Tensor]
Cell = Callable[[Tensor, list[Tensor]], list[Tensor]]
_ALPHA = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "ScaledTanh": 1.0, "HardSigmoid": 0.2, "Elu": 1.0, "Affine": 1.0}
_BETA = {"ScaledTanh": 1.0, "HardSigmoid": 0.5, "Affine": 0.0}
_PLAIN: dict[str, Activation] = {
    "Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Softsign": F.softsign, "Softplus": F.softplus,
}  # fmt: skip


def gate_functions(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> list[Activation]:
    """Activation functions by name (case does not matter); each takes its numbers from the lists in turn."""
    known = {name.lower(): name for name in (*_PLAIN, *_ALPHA)}
    alpha, beta = list(alphas or []), list(betas or [])
    found = []
    for given in names:
        name = known[given.lower()]
        a = (alpha.pop(0) if alpha else _ALPHA[name]) if name in _ALPHA else 0.0
        b = (beta.pop(0) if beta else _BETA[name]) if name in _BETA else 0.0
        found.append(_PLAIN[name] if name in _PLAIN else _parametric(name, a, b))
    return found


def _parametric(name: str, a: float, b: float) -> Activation:
    forms: dict[str, Activation] = {
        "LeakyRelu": lambda x: F.leaky_relu(x, a),
        "ThresholdedRelu": lambda x: torch.where(x > a, x, torch.zeros_like(x)),
        "ScaledTanh": lambda x: a * torch.tanh(b * x),
        "HardSigmoid": lambda x: torch.clamp(a * x + b, 0, 1),
        "Elu": lambda x: F.elu(x, a),
        "Affine": lambda x: a * x + b,
    }
    return forms[name]


def _clipped(x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else x.clamp(-clip, clip)


def _run(
    x: Tensor, lengths: Tensor | None, states: list[Tensor], cell: Cell, backward: bool
) -> tuple[Tensor, list[Tensor]]:
    """One direction over T x B x I: outputs (zeros beyond a sequence's length) and the last states."""
    steps = range(x.shape[0])
    found: list[Tensor] = []
    for t in reversed(steps) if backward else steps:
        new = cell(x[t], states)
        if lengths is not None:
            alive = (t < lengths).unsqueeze(1)
            states = [torch.where(alive, a, b) for a, b in zip(new, states, strict=True)]
            found.append(torch.where(alive, new[0], torch.zeros_like(new[0])))
        else:
            states = new
            found.append(new[0])
    if not found:
        return x.new_zeros((0, *states[0].shape)), states
    return torch.stack(found[::-1] if backward else found), states


def _directions(
    X: Tensor,
    R: Tensor,
    initial: Sequence[Tensor | None],
    lengths: Tensor | None,
    direction: str,
    layout: int,
    make: Callable[[int], Cell],
) -> tuple[Tensor, list[Tensor]]:
    """Y as T x D x B x H and the last states as D x B x H (batch first with ``layout`` 1)."""
    x = X.transpose(0, 1) if layout else X
    begin = [s.transpose(0, 1) if s is not None and layout else s for s in initial]
    outputs, last = [], []
    for d in range(R.shape[0]):
        zero = x.new_zeros((x.shape[1], R.shape[2]))
        states = [zero if s is None else s[d] for s in begin]
        y, end = _run(x, lengths, states, make(d), direction == "reverse" or d == 1)
        outputs.append(y)
        last.append(end)
    y = torch.stack(outputs, 1)
    ends = [torch.stack([end[i] for end in last]) for i in range(len(initial))]
    if layout:
        return y.permute(2, 0, 1, 3), [e.transpose(0, 1) for e in ends]
    return y, ends


@op
def LSTM(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    P: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates lie in the order input, output, forget, cell; peepholes input, output, forget."""
    names = activations or ["Sigmoid", "Tanh", "Tanh"] * R.shape[0]
    functions = gate_functions(names, activation_alpha, activation_beta)

    def make(d: int) -> Cell:
        f, g, h = functions[3 * d : 3 * d + 3]
        bias = None if B is None else torch.add(*B[d].chunk(2))
        peeps = None if P is None else P[d].chunk(3)

        def cell(x: Tensor, states: list[Tensor]) -> list[Tensor]:
            hidden, memory = states
            gates = F.linear(x, W[d], bias) + F.linear(hidden, R[d])
            i, o, fg, c = gates.chunk(4, -1)
            if peeps is not None:
                i, fg = i + peeps[0] * memory, fg + peeps[2] * memory
            i = f(_clipped(i, clip))
            fg = 1 - i if input_forget else f(_clipped(fg, clip))
            memory = fg * memory + i * g(_clipped(c, clip))
            if peeps is not None:
                o = o + peeps[1] * memory
            return [f(_clipped(o, clip)) * h(memory), memory]

        return cell

    y, (h, c) = _directions(X, R, [initial_h, initial_c], sequence_lens, direction, layout, make)
    return y, h, c


@op
def GRU(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Gates lie in the order update, reset, hidden."""
    names = activations or ["Sigmoid", "Tanh"] * R.shape[0]
    functions = gate_functions(names, activation_alpha, activation_beta)
    size = R.shape[2]

    def make(d: int) -> Cell:
        f, g = functions[2 * d : 2 * d + 2]
        wb, rb = (None, None) if B is None else B[d].chunk(2)
        rzr, rh = R[d, : 2 * size], R[d, 2 * size :]
        bzr, bh = (None, None) if rb is None else (rb[: 2 * size], rb[2 * size :])

        def cell(x: Tensor, states: list[Tensor]) -> list[Tensor]:
            hidden = states[0]
            z, r, h = F.linear(x, W[d], wb).chunk(3, -1)
            uz, ur = F.linear(hidden, rzr, bzr).chunk(2, -1)
            z, r = f(_clipped(z + uz, clip)), f(_clipped(r + ur, clip))
            back = r * F.linear(hidden, rh, bh) if linear_before_reset else F.linear(r * hidden, rh, bh)
            return [(1 - z) * g(_clipped(h + back, clip)) + z * hidden]

        return cell

    y, (h,) = _directions(X, R, [initial_h], sequence_lens, direction, layout, make)
    return y, h


@op
def RNN(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] = ["Tanh", "Tanh"],  # noqa: B006
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, Tensor]:
    functions = gate_functions(activations, activation_alpha, activation_beta)

    def make(d: int) -> Cell:
        bias = None if B is None else torch.add(*B[d].chunk(2))

        def cell(x: Tensor, states: list[Tensor]) -> list[Tensor]:
            return [functions[d](_clipped(F.linear(x, W[d], bias) + F.linear(states[0], R[d]), clip))]

        return cell

    y, (h,) = _directions(X, R, [initial_h], sequence_lens, direction, layout, make)
    return y, h
