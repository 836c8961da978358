"""What a network sees: Grad-CAM and occlusion against formulas, mosaics against the network's own values."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from netferry.errors import InputError, UsageError
from netferry.runtime.picture_charts import feature_map, mosaic_chart, overlay_chart
from netferry.runtime.visualize import in_two_dimensions, occlusion_map, scaled_to, strongest
from tests.runtime.test_evaluate import FIXTURES, digits
from tests.runtime.test_plots import overlaps

pytest.importorskip("matplotlib", reason="needs the extra 'evaluate'")
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
HEAD = RNG.normal(size=(4, 5)).astype(np.float32)


def cam_net(path: Path) -> Path:
    """conv, relu, global average, dense, softmax: Grad-CAM is then the class activation map of Zhou et al. 2016."""
    from onnx import numpy_helper

    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
    g (float[N, 3, 12, 16] data) => (float[N, 5] prob) <float[4, 3, 3, 3] k, float[4, 5] w> {
        [conv] c = Conv<pads = [1, 1, 1, 1]>(data, k)  [relu] a = Relu(c)
        [mean] m = GlobalAveragePool(a)  [flat] f = Flatten(m)  [dense] s = MatMul(f, w)  [soft] prob = Softmax(s) }""")
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([numpy_helper.from_array(KERNEL, "k"), numpy_helper.from_array(HEAD, "w")])
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("target", range(5))
def test_gradcam_is_zhous_map_behind_a_global_average(target: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    from netferry.runtime.torch.gradcam import gradcam

    model = netferry.load(cam_net(tmp_path / "n.onnx"))
    values = {v.name: v for node in model.graph for v in node.outputs}
    model.graph.outputs.clear()
    model.graph.outputs.extend([values["s"], values["a"]])
    picture = RNG.normal(size=(1, 3, 12, 16)).astype(np.float32)
    got = gradcam(netferry.to_torch(model), picture, target)
    maps = torch.relu(torch.nn.functional.conv2d(torch.from_numpy(picture), torch.from_numpy(KERNEL), padding=1))[
        0
    ].numpy()
    expected = np.maximum(np.einsum("c,chw->hw", HEAD[:, target], maps), 0) / (12 * 16)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_gradcam_weighs_channels_with_the_mean_gradient() -> None:
    """Behind a dense layer the gradient differs from place to place: it is the layer's weights."""
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    from netferry.runtime.torch.gradcam import gradcam

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(3 * 4 * 5, 2, bias=False)

        def forward(self, x: Any) -> Any:
            maps = torch.relu(x * 1.0)
            return self.dense(maps.flatten(1)), maps

    torch.manual_seed(0)
    net = Net()
    picture = np.abs(RNG.normal(size=(1, 3, 4, 5))).astype(np.float32)
    weights = net.dense.weight.detach().numpy()[1].reshape(3, 4, 5).mean((1, 2))
    expected = np.maximum(np.einsum("c,chw->hw", weights, picture[0]), 0)
    np.testing.assert_allclose(gradcam(net, picture, 1), expected, atol=1e-6)


def test_the_verb_draws_the_same_map(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra 'train'")
    net = cam_net(tmp_path / "n.onnx")
    Image.fromarray(RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(tmp_path / "p.png")
    found = netferry.visualize(net, [tmp_path / "p.png"], kind="cam", layer="relu", out=tmp_path / "o.png", target=2)
    assert (found["method"], found["layer"], found["pictures"][0]["class"]) == ("gradcam", "relu", 2)
    other = netferry.visualize(net, [tmp_path / "p.png"], kind="cam", method="occlusion", out=tmp_path / "q.svg")
    assert other["method"] == "occlusion"
    assert "layer" not in other
    assert {p.name for p in tmp_path.iterdir()} == {"n.onnx", "p.png", "o.png", "q.svg"}


@pytest.mark.parametrize("channels_last", [False, True])
def test_occlusion_finds_what_counts(channels_last: bool) -> None:
    """A score that is the sum of one square: covering it costs, covering anything else does not."""
    tensor = np.ones((20, 30, 3) if channels_last else (3, 20, 30), np.float32)

    def score(batch: np.ndarray) -> np.ndarray:
        square = batch[:, 4:8, 20:25] if channels_last else batch[:, :, 4:8, 20:25]
        return square.sum((1, 2, 3))

    heat = occlusion_map(score, tensor, channels_last=channels_last, patch=0.2, steps=30, batch=7)
    assert heat.shape == (20, 30)
    y, x = divmod(int(heat.argmax()), 30)
    assert 4 <= y < 8
    assert 20 <= x < 25
    assert heat[:, :14].max() == 0
    assert heat[12:].max() == 0


def test_maps_are_brought_to_the_picture() -> None:
    heat = np.array([[0.0, 4.0], [-1.0, 2.0]], np.float32)
    large = scaled_to(heat, 20, 40)
    assert (large.shape, large.max()) == ((20, 40), 1.0)
    assert large[2, 37] == pytest.approx(1.0)
    assert scaled_to(-heat[:1, :1] - 1, 4, 4).max() == 0


def test_the_strongest_channels_in_their_order() -> None:
    channels = np.stack([np.full((2, 2), v) for v in (1.0, -5.0, 3.0, 0.0)])
    assert strongest(channels, 2).tolist() == [1, 2]
    assert strongest(channels, 9).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("layer", "shape"), [("conv1", [8, 16, 16]), ("ip1", None), ("prob", [10])])
def test_activations_of_any_layer(layer: str, shape: list[int] | None, tmp_path: Path) -> None:
    found = netferry.visualize(digits(tmp_path), [FIXTURES / "digit_7_09.png"], layer=layer, out=tmp_path / "a.png")
    assert found["files"] == [str(tmp_path / "a.png")]
    row = found["pictures"][0]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    if shape is not None:
        assert row["shape"][-1] == shape[-1]
    assert len(row["channels"]) == row["shape"][0]


def test_several_pictures_go_into_a_folder(tmp_path: Path) -> None:
    pictures = [FIXTURES / "digit_7_09.png", FIXTURES / "digit_5_01.png"]
    found = netferry.visualize(digits(tmp_path), pictures, out=tmp_path / "out")
    assert found["layer"] == "conv1"
    assert [Path(f).name for f in found["files"]] == [
        "000-digit_7_09.conv1.activations.png", "001-digit_5_01.conv1.activations.png",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="give a folder"):
        netferry.visualize(digits(tmp_path), pictures, out=tmp_path / "one.png")


@pytest.mark.parametrize("kind", ["activations", "cam", "map"])
def test_what_cannot_be_read_is_skipped_and_listed(kind: str, tmp_path: Path) -> None:
    """And an index with its own names of columns, as for the other verbs."""
    net = digits(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [str(p) for p in sorted(FIXTURES.glob("digit_*.png"))[:3]]
    (tmp_path / "in.csv").write_text("where,what\n" + "".join(f"{r},a\n" for r in [rows[0], "broken.png", *rows[1:]]))
    options: dict[str, Any] = {"data_options": {"path_column": "where", "label_column": "what"}, "kind": kind}
    out = tmp_path / ("map.png" if kind == "map" else "drawn")
    method = {"method": "occlusion"} if kind == "cam" else {}
    found = netferry.visualize(net, [tmp_path / "in.csv"], out=out, on_error="skip", **options, **method)
    assert [s["item"] for s in found["skipped"]] == [str(tmp_path / "broken.png")]
    assert (found["items"] if kind == "map" else len(found["pictures"])) == 3
    with pytest.raises(InputError, match=r"broken\.png"):
        netferry.visualize(net, [tmp_path / "in.csv"], out=tmp_path / "other", **options, **method)


def test_the_map_separates_what_is_apart_and_writes_its_points(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra 'evaluate'")
    found = netferry.visualize(digits(tmp_path), [FIXTURES / "digits.csv"], kind="map", out=tmp_path / "map.svg")
    assert (found["method"], found["items"]) == ("pca", 12)
    table = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    fives = np.array([[float(r["x"]), float(r["y"])] for r in table if r["label"] == "five"])
    points = np.array([[float(r["x"]), float(r["y"])] for r in table])
    assert fives.std(0).mean() < points.std(0).mean()


@pytest.mark.parametrize("method", ["pca", "tsne", "auto"])
def test_points_are_the_same_every_time_and_groups_stay_together(method: str) -> None:
    pytest.importorskip("sklearn", reason="needs the extra 'evaluate'")
    rng = np.random.default_rng(1)
    features = np.concatenate([rng.normal(c * 5, 1, (20, 8)) for c in range(3)])
    points, how = in_two_dimensions(features, method)
    again, _ = in_two_dimensions(features, method)
    np.testing.assert_array_equal(points, again)
    assert how["method"] == ("tsne" if method == "auto" else method)
    centres = points.reshape(3, 20, 2).mean(1)
    distance = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(1)
    assert (distance == np.repeat([0, 1, 2], 20)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"kind": "dreams"}, "kind is", id="kind"),
        pytest.param({"kind": "cam", "method": "tsne"}, "method of cam", id="method"),
        pytest.param({"layer": "nowhere"}, "nowhere", id="layer"),
        pytest.param({"kind": "cam", "target": "zebra"}, "no class", id="class"),
        pytest.param({"kind": "map"}, "three items", id="too-few"),
        pytest.param({"out": "x.bmp"}, "a drawing is", id="suffix"),
    ],
)
def test_wrong_calls(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra 'evaluate'")
    with pytest.raises(UsageError, match=message):
        netferry.visualize(digits(tmp_path), [FIXTURES / "digit_7_09.png"], **{"out": tmp_path / "o", **arguments})


PICTURE = RNG.integers(0, 256, (60, 80, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(lambda: mosaic_chart(PICTURE, RNG.random((20, 6, 8)), range(20), title="a layer"), id="mosaic"),
        pytest.param(lambda: mosaic_chart(PICTURE, RNG.random((10, 1, 1)), range(10), title="a layer"), id="bars"),
        pytest.param(lambda: mosaic_chart(PICTURE, RNG.random((1, 6, 8)), [0], title="a layer"), id="one-channel"),
        pytest.param(lambda: overlay_chart(PICTURE, RNG.random((60, 80)), title="cat (0.5)", note="at x"), id="cam"),
        pytest.param(
            lambda: feature_map(RNG.random((60, 2)), [f"class {i % 30}" for i in range(60)],
                                {"method": "pca", "explained": [0.5, 0.25]}, title="features"), id="map-of-30-classes"),
    ],
)  # fmt: skip
def test_texts_keep_apart(figure: Any) -> None:
    assert overlaps(figure()) == []
