"""Small data and networks for training; everything here needs torch and Lightning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import netferry
from netferry.runtime.data.folder import ImageFolder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.preprocessing import Preprocessing

pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("lightning", reason="needs the extra 'train'")


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 pictures each: stripes across, stripes down, none; seeded noise on all."""
    root = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    for name in ("across", "down", "none"):
        (root / name).mkdir()
        for i in range(20):
            side = (20, 24, 28)[i % 3]
            wave = 60 * np.sin(np.arange(side) * 2 + rng.uniform(0, 6))
            plain = np.full((side, side), 128.0) + rng.normal(0, 12, (side, side))
            picture = plain + {"across": wave[:, None], "down": wave[None, :], "none": 0}[name]
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture
def pictures(stripes: Path) -> ImageFolder:
    return ImageFolder(stripes)


NET = """<ir_version: 10, opset_import: ["": 21]>
net (float[N, 1, 20, 20] x) => (float[N, 4] y) {
  c1 = Conv<pads = [1, 1, 1, 1]>(x, c1_w, c1_b)
  n1 = BatchNormalization(c1, n1_s, n1_o, n1_m, n1_v)
  r1 = Relu(n1)
  p1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r1)
  c2 = Conv<pads = [1, 1, 1, 1]>(p1, c2_w, c2_b)
  n2 = BatchNormalization(c2, n2_s, n2_o, n2_m, n2_v)
  r2 = Relu(n2)
  g = GlobalAveragePool(r2)
  f = Flatten(g)
  d = Dropout(f, ratio)
  fc = Gemm<transB = 1>(d, fc_w, fc_b)
  y = Softmax(fc)
}"""


@pytest.fixture
def network() -> Callable[..., Model]:
    """A small convolutional classifier of 4 classes with batch norms and dropout; seeded weights."""

    def make(dropout: float = 0.2) -> Model:
        text = NET
        rng = np.random.default_rng(1)
        shapes = {"c1_w": (8, 1, 3, 3), "c1_b": (8,), "c2_w": (12, 8, 3, 3), "c2_b": (12,), "fc_w": (4, 12),
                  "fc_b": (4,)}  # fmt: skip
        arrays = {k: rng.normal(0, (2 / max(1, np.prod(s[1:]))) ** 0.5, s) for k, s in shapes.items()}
        for n, width in (("n1", 8), ("n2", 12)):
            arrays |= {f"{n}_s": np.ones(width), f"{n}_o": np.zeros(width), f"{n}_m": np.zeros(width),
                       f"{n}_v": np.ones(width)}  # fmt: skip
        arrays["ratio"] = np.array(dropout)
        graph = ir.from_onnx_text(text.replace("{\n  c1", "<" + _declared(arrays) + "> {\n  c1"))
        for node in graph.graph:
            node.metadata_props["netferry.layer"] = node.outputs[0].name or ""
        model = Model(graph, source=Source("onnx"))
        model.graph[-1].metadata_props["netferry.layer"] = "prob"
        recipe = Preprocessing(color="GRAY", mean=(128.0,), scale=(1 / 64,), layout="NCHW")
        model.preprocessing["x"] = recipe
        return model

    return make


def _declared(arrays: dict[str, np.ndarray]) -> str:
    parts = []
    for name, array in arrays.items():
        values = ", ".join(repr(float(np.float32(v))) for v in array.ravel())
        kind = f"float[{', '.join(map(str, array.shape))}]" if array.ndim else "float"
        parts.append(f"{kind} {name} = {{{values}}}")
    return ", ".join(parts)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Model], Path]:
    def write(model: Model) -> Path:
        netferry.save(model, tmp_path / "net.onnx")
        return tmp_path / "net.onnx"

    return write
