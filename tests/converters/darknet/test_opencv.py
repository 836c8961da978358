"""Random nets of convolutions, pools, routes, shortcuts and the rest against OpenCV's own Darknet reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.converters.darknet.running import convert, result

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
Shape = tuple[int, int, int]
ACTIVATIONS = ("leaky", "linear", "mish", "swish", "relu", "logistic", "tanh")


def convolution(rng: np.random.Generator, shape: Shape, arrays: list[np.ndarray]) -> tuple[str, Shape]:
    c, h, w = shape
    size, step, filters = int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2])), int(rng.choice([4, 6, 8]))
    groups = int(rng.choice([1, 1, 1, 2])) if c % 2 == 0 else 1
    if rng.uniform() < 0.15:
        groups = filters = c
    normalised = int(rng.integers(0, 2))
    arrays.append(rng.standard_normal(filters))
    if normalised:
        arrays += [rng.standard_normal(filters), rng.standard_normal(filters), rng.uniform(0.5, 2, filters)]
    fan_in = c // groups * size * size
    arrays.append(rng.standard_normal((filters, c // groups, size, size)) / np.sqrt(fan_in))
    text = (
        f"[convolutional]\nfilters={filters}\nsize={size}\nstride={step}\npad=1\ngroups={groups}\n"
        f"batch_normalize={normalised}\nactivation={rng.choice(ACTIVATIONS)}\n"
    )
    high, wide = ((d + 2 * (size // 2) - size) // step + 1 for d in (h, w))
    return text, (filters, high, wide)


def section(
    rng: np.random.Generator, shape: Shape, shapes: list[Shape], arrays: list[np.ndarray]
) -> tuple[str, Shape] | None:
    """One section that can stand here, and what it gives; None where the drawn kind cannot."""
    c, h, w = shape
    kind = str(rng.choice(["conv", "conv", "conv", "max", "route", "routes", "shortcut", "upsample", "reorg"]))
    if kind == "conv":
        return convolution(rng, shape, arrays)
    if kind == "max":
        if rng.uniform() < 0.5:
            return f"[maxpool]\nsize={rng.choice([2, 3, 5])}\nstride=1\n", shape
        return None if h % 2 or w % 2 else ("[maxpool]\nsize=2\nstride=2\n", (c, h // 2, w // 2))
    if kind == "route" and shapes:
        k = int(rng.integers(len(shapes)))
        if shapes[k][0] % 2 == 0 and rng.uniform() < 0.4:
            return f"[route]\nlayers={k}\ngroups=2\ngroup_id=1\n", (shapes[k][0] // 2, *shapes[k][1:])
        return f"[route]\nlayers={k - len(shapes)}\n", shapes[k]
    same = [k for k, s in enumerate(shapes) if s[1:] == (h, w)]
    if kind == "routes" and len(same) > 1:
        chosen = [int(k) for k in rng.choice(same, 2, replace=False)]
        return f"[route]\nlayers={chosen[0]},{chosen[1]}\n", (sum(shapes[k][0] for k in chosen), h, w)
    equal = [k for k, s in enumerate(shapes[:-1]) if s == shape]
    if kind == "shortcut" and equal:
        back = int(rng.choice(equal)) - len(shapes)
        return f"[shortcut]\nfrom={back}\nactivation={rng.choice(['linear', 'leaky'])}\n", shape
    if kind == "upsample" and h <= 16:
        return "[upsample]\nstride=2\n", (c, 2 * h, 2 * w)
    if kind == "reorg" and shapes and not (c % 4 or h % 2 or w % 2):
        return "[reorg]\nstride=2\n", (c * 4, h // 2, w // 2)
    return None


@pytest.mark.parametrize("seed", range(40))
def test_random_nets(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = int(rng.choice([8, 12, 16])), int(rng.choice([8, 12, 16]))
    text, arrays, shapes = f"[net]\nheight={height}\nwidth={width}\nchannels=3\n", list[np.ndarray](), list[Shape]()
    shape: Shape = (3, height, width)
    while len(shapes) < 8:
        found = section(rng, shape, shapes, arrays)
        if found is not None:
            text, shape = text + found[0], found[1]
            shapes.append(shape)
    x = rng.standard_normal((1, 3, height, width)).astype(np.float32)
    got = result(convert(tmp_path, text, arrays), x)
    net = cv2.dnn.readNetFromDarknet(str(tmp_path / "net.cfg"), str(tmp_path / "net.weights"))
    net.setInput(x)
    wanted = net.forward()
    assert got.size == wanted.size
    largest = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(got.ravel(), wanted.ravel(), rtol=0, atol=1e-4 * largest)
