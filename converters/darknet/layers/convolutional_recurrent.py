"""crnn: a recurrent layer whose parts are 3 x 3 convolutions.

Rules: crnn_layer.c of pjreddie/darknet. A batch is ``time_steps`` of [net] times as many pictures, time first. Darknet
keeps the state from one run to the next; here each run begins at 0.
"""

from __future__ import annotations

from collections.abc import Callable

from netferry.converters.darknet.layers.activation import activate
from netferry.converters.darknet.layers.normalization import EPSILON, adjusted, read_normalisation
from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role

MOST_STEPS = 64


@layer("crnn")
def crnn(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """state = act(conv x) + act(conv state), plus the old state with ``shortcut``; output act(conv state)."""
    s = l.section
    channels, high, wide = l.image(x)
    hidden, outputs = s.int("hidden_filters", 1, least=1), s.int("output_filters", 1, least=1)
    steps = l.net.int("time_steps", 1, least=1)
    if steps > MOST_STEPS:
        raise l.unsupported(f"time_steps={steps}: each becomes a part of the graph, {MOST_STEPS} at most")
    l.check((max(hidden, outputs), high, wide))
    read_in, keep, tell = (
        _convolution(b, l, name, inputs, filters)
        for name, inputs, filters in (
            ("input", channels, hidden),
            ("state", hidden, hidden),
            ("output", hidden, outputs),
        )
    )
    l.note("assumed", "the state begins at 0 in every run; Darknet keeps it from one to the next")
    driven = read_in(x)
    if steps > 1:
        driven = b.reshape(driven, [steps, -1, hidden, high, wide])
        parts = list(b.op("Split", driven, outputs=steps, axis=0, num_outputs=steps))
        driven_steps = [b.reshape(part, [-1, hidden, high, wide]) for part in parts]
    else:
        driven_steps = [driven]
    state = b.op("Sub", driven_steps[0], driven_steps[0])
    states: list[ir.Value] = []
    for now in driven_steps:
        after = b.op("Add", now, keep(state))
        state = b.op("Add", after, state) if s.int("shortcut", 0) else after
        states.append(state)
    return tell(b.op("Concat", *states, axis=0) if steps > 1 else state)


def _convolution(b: Builder, l: Layer, name: str, channels: int, filters: int) -> Callable[[ir.Value], ir.Value]:
    """Take one part's parameters, in the file's order; returns what it computes."""
    s = l.section
    bias = l.tensor(f"{name} biases", (filters,), default=0.0)
    found = read_normalisation(l, filters) if s.int("batch_normalize", 0) else None
    kernel = b.param(f"{name}_weights", l.tensor(f"{name} weights", (filters, channels, 3, 3)))
    activation = s.str("activation", "logistic")
    settings = {"kernel_shape": (3, 3), "pads": [1] * 4}
    biases = b.param(f"{name}_biases", bias)
    if found is None:
        return lambda x: activate(b, l, b.op("Conv", x, kernel, biases, **settings), activation)
    scales = b.param(f"{name}_scales", found.scale)
    mean = b.param(f"{name}_rolling_mean", found.mean, role=Role.STATE)
    variance = b.param(f"{name}_rolling_variance", adjusted(found.variance), role=Role.STATE)

    def normalised(x: ir.Value) -> ir.Value:
        y = b.op("Conv", x, kernel, **settings)
        y = b.op("BatchNormalization", y, scales, biases, mean, variance, epsilon=EPSILON)
        return activate(b, l, y, activation)

    return normalised
