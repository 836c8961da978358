"""Every network of the zoo: built, counted, run, compared with an independent implementation, retrained, exported."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import netferry
from netferry.errors import UsageError
from netferry.schemas.layers import Role
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of
from netferry.zoo.catalogue import Entry, class_names, entries, entry
from tests.converters.keras.conftest import keras_of as _keras_of
from tests.converters.keras.oracle import Keras

keras_of = _keras_of
QUICK = {"squeezenet", "shufflenet", "resnet18", "mobilenetv2", "yamnet"}
APPLICATIONS = {
    "inceptionv3": "InceptionV3",
    "densenet201": "DenseNet201",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
    "resnet101-keras": "ResNet101",
    "xception": "Xception",
    "inceptionresnetv2": "InceptionResNetV2",
    "nasnetmobile": "NASNetMobile",
    "nasnetlarge": "NASNetLarge",
    "efficientnetb0": "EfficientNetB0",
}
PUBLISHED = [each for row in entries().values() for each in row.variants]
ALL = [pytest.param(e, id=e.definition, marks=() if e.definition in QUICK else pytest.mark.slow) for e in PUBLISHED]


def batch(model: Model, count: int) -> np.ndarray:
    """Seeded input of the network's size, as large as its preprocessing makes pictures."""
    shape = [count if isinstance(d, str) else d for d in model.inputs[0].shape or ()]
    noise = np.random.default_rng(count).standard_normal(shape).astype(np.float32)
    recipe = model.preprocessing.get(model.inputs[0].name)
    if recipe is None:
        return noise
    scale = float(np.mean(recipe.scale)) if recipe.scale else 1.0
    return (noise * 60 * scale).astype(np.float32)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def arrays(model: Model) -> dict[str, np.ndarray]:
    return {k: np.array(array_of(v)) for k, v in model.parameters(None).items()}


def close(got: np.ndarray, want: np.ndarray, tolerance: float = 1e-4) -> None:
    """Within ``tolerance``, or that part of a value above 1; and within a thousandth of the largest."""
    assert got.shape == want.shape
    largest = np.abs(want).max()
    assert np.abs(got - want).max() <= min(tolerance * max(1.0, largest), 10 * tolerance * largest)


@pytest.mark.parametrize("row", ALL)
def test_network(row: Entry, tmp_path: Path, keras_of: Callable[[int], Keras]) -> None:
    name, path = row.definition, tmp_path / "net.onnx"
    model = netferry.zoo.load(row.name, seed=3, variant=row.variant)
    done = netferry.save(model, path, check="run")  # full check, strict shapes, batches of 1 and 3
    assert [c["outcome"] for c in done["checks"]] == ["passed", "passed"]
    totals = netferry.inspect(model)["totals"]
    counted = totals["learnables"] + (totals["state"] if row.format == "keras" else 0)
    assert counted + (name == "efficientnetb0") == row.parameters
    assert totals["depth"] == row.depth
    assert sorted(d for d in model.inputs[0].shape or () if isinstance(d, int)) == sorted(row.input)
    if row.labels:
        assert list(model.labels.values()) == [list(class_names(row.labels))]
        assert netferry.load(path).labels == model.labels
    x = batch(model, 2)
    scores = run(path, x)
    assert np.isfinite(scores).all()
    assert np.abs(scores[0] - scores[1]).max() > 1e-3 * np.abs(scores).max()  # the input matters
    if name in APPLICATIONS:
        agrees_with_keras(row, tmp_path, keras_of)
    else:
        torch = pytest.importorskip("torch")
        from tests.zoo.torch_nets import NETS

        with torch.no_grad():
            close(scores, NETS[name](arrays(model), torch.from_numpy(x)).numpy())
    retrains(model, name, tmp_path)


def agrees_with_keras(row: Entry, folder: Path, keras_of: Callable[[int], Keras]) -> None:
    """keras.applications with values of its own, saved as weights alone, read back by our definition."""
    height, width, channels = row.input
    name = row.definition
    model = f"keras.applications.{APPLICATIONS[name]}(weights=None, classifier_activation=None)"
    facts = keras_of(3).make(
        model=model, shapes=[(height, width, channels)], dtypes=["float32"], seed=3, length=96, folder=str(folder),
        scale=255.0 if "efficientnet" in name else 1.0, low=0, high=8, zeros=False, calibrate=True, kinds=["json"],
    )  # fmt: skip
    case = dict(np.load(folder / "case.npz"))
    ours = netferry.zoo.load(row.name, weights=folder / "model.weights.h5")  # the file tells the variant
    graph = ours.graph
    softmax = graph.outputs[0].producer()
    assert softmax is not None
    assert softmax.op_type == "Softmax"
    logits = softmax.inputs[0]
    assert logits is not None
    graph.outputs[0] = logits
    ours.labels = {}
    netferry.save(ours, folder / "keras.onnx", check="structure")
    for key in sorted(k for k in case if k.endswith("in0")):
        want = case[key.replace("in0", "out0")]
        close(run(folder / "keras.onnx", case[key]), want, max(1e-4, 3 * facts["noise"]))


def retrains(model: Model, name: str, folder: Path) -> None:
    """A head of five classes, everything else as it was; features of the last pooling layer; five steps; export."""
    five = model.with_head(5)
    head, before = five.head(), model.parameters(None)
    for key, value in five.parameters(None).items():
        if key in before and not key.startswith(head.layer):  # one at a time: a network may have 600 MB
            assert np.array_equal(array_of(value), array_of(before[key])), key
    features(five, folder)
    torch = pytest.importorskip("torch")
    module = five.to_torch()
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trainable == sum(v.const_value.size for v in five.parameters(Role.LEARNABLE).values() if v.const_value)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-4)
    x, target = torch.from_numpy(batch(five, 2)), torch.tensor([1, 3])
    module.train()
    for _ in range(5):
        optimizer.zero_grad()
        out = module(x)
        out = out if isinstance(out, torch.Tensor) else next(iter(out.values() if isinstance(out, dict) else out))
        loss = torch.nn.functional.cross_entropy(out.flatten(1), target)
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    changed = five.update_from(module)
    assert changed
    netferry.save(five, folder / "five.onnx", check="structure")
    got = run(folder / "five.onnx", batch(five, 2))
    assert got.reshape(2, -1).shape == (2, 5)
    assert np.isfinite(got).all()


def features(model: Model, folder: Path) -> None:
    """The last pooling layer's output as an output of the graph: one row of finite numbers per item."""
    pools = [n for n in model.graph if "Pool" in n.op_type or n.op_type == "ReduceMean"]
    made = model.copy()
    node = next(n for n in made.graph if n.name == pools[-1].name)
    made.graph.outputs.insert(0, node.outputs[0])
    netferry.save(made, folder / "features.onnx", check="structure")
    got = run(folder / "features.onnx", batch(made, 2))
    assert got.reshape(2, -1).shape[1] > 4
    assert np.isfinite(got).all()
    assert np.ptp(got) > 0


@pytest.mark.slow
def test_nasnetlarge_needs_little_memory(tmp_path: Path) -> None:
    """Build and check within four times the size of the weights, in a process of its own."""
    code = (
        "import netferry\n"
        "from netferry.runtime.timing import resident\n"
        "netferry.zoo.build('nasnetlarge', 'n.onnx', check='run')\n"
        "print(resident(peak=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 4 * 4 * entry("nasnetlarge").parameters


# parameters (of Keras networks with running statistics) and depth; EfficientNet's normalisation counts its pictures too
COUNTED = {
    "squeezenet": (1_235_496, 18), "googlenet": (6_998_552, 22), "googlenet-places365": (6_347_677, 22),
    "inceptionv3": (23_851_784, 48), "densenet201": (20_242_984, 201), "mobilenetv2": (3_538_984, 53),
    "resnet18": (11_689_512, 18), "resnet50": (25_636_712, 50), "resnet101": (44_549_160, 101),
    "resnet101-keras": (44_707_176, 101),
    "xception": (22_910_480, 71), "inceptionresnetv2": (55_873_736, 176), "shufflenet": (1_395_312, 50),
    "nasnetmobile": (5_326_716, 98), "nasnetlarge": (88_949_818, 128), "darknet19": (20_842_376, 19),
    "darknet53": (41_609_928, 53), "efficientnetb0": (5_330_571 - 1, 82), "alexnet": (60_965_224, 8),
    "vgg16": (138_357_544, 16), "vgg19": (143_667_240, 19), "vggish": (72_141_184, 9), "yamnet": (3_751_369, 28),
}  # fmt: skip


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.definition)
def test_inspect_gives_the_published_counts(row: Entry) -> None:
    totals = netferry.inspect(netferry.zoo.load(row.name, variant=row.variant))["totals"]
    counted = totals["learnables"] + (totals["state"] if row.format == "keras" else 0)
    assert (counted, totals["depth"]) == COUNTED[row.definition]
    assert set(COUNTED) == {each.definition for each in PUBLISHED}


@pytest.mark.parametrize(
    ("asked", "found"),
    [("ResNet-50", "resnet50"), ("mobilenet_v2", "mobilenetv2"), ("googlenet places365", "googlenet-places365")],
)
def test_names_in_other_spellings(asked: str, found: str) -> None:
    assert entry(asked).name == found


def test_names_that_are_nearly_right() -> None:
    with pytest.raises(UsageError) as caught:
        entry("resnet5")
    assert "resnet50" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        entry("transformer")
    assert "yamnet" in str(caught.value.hint)


def test_squeezenet_is_counted_as_published() -> None:
    found = netferry.inspect(netferry.zoo.load("squeezenet"))
    totals = found["totals"]
    assert (totals["layers"], totals["connections"], totals["learnable_tensors"]) == (68, 75, 52)
    assert [i["name"] for i in found["inputs"]] == ["data"]
    assert [o["name"] for o in found["outputs"]] == ["prob_flatten"]
    assert netferry.zoo.load("squeezenet").head().layer == "conv10"


def test_places365_differs_from_imagenet_in_its_head_only() -> None:
    one, other = netferry.zoo.load("googlenet"), netferry.zoo.load("googlenet-places365")
    first, second = arrays(one), arrays(other)
    assert [n.op_type for n in one.graph] == [n.op_type for n in other.graph]
    unlike = [k for k in first if first[k].shape != second[k].shape]
    assert unlike == ["loss3/classifier.weight", "loss3/classifier.bias"]
    assert len(other.labels["prob"]) == 365


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.onnx" for i in range(3)]
    for file, seed in zip(files, (7, 7, 8), strict=True):
        netferry.zoo.build("squeezenet", file, seed=seed, check="structure")
    first, second, third = (f.read_bytes() for f in files)
    assert first == second != third


def test_labels_are_the_known_ones() -> None:
    known = {
        "imagenet": (1000, {0: "tench, Tinca tinca", 278: "kit fox, Vulpes macrotis", 980: "volcano"}),
        "imagenet-darknet": (1000, {0: "kit fox, Vulpes macrotis", 1: "English setter"}),
        "places365": (365, {0: "airfield", 8: "apartment_building/outdoor", 364: "zen_garden"}),
        "audioset": (521, {0: "Speech", 132: "Music", 494: "Silence", 520: "Field recording"}),
        "audioset_ids": (521, {0: "/m/09x0r", 520: "/m/07hvw1"}),
    }  # fmt: skip
    for name, (count, some) in known.items():
        names = class_names(name)
        assert len(names) == count
        assert {i: names[i] for i in some} == some
    assert sorted(class_names("imagenet")) == sorted(class_names("imagenet-darknet"))


def test_seven_seconds_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``zoo build`` and ``predict`` with an empty cache and no network; benchmarks/zoo_build.py takes the time."""

    def refuse(*_: object) -> None:
        raise AssertionError("nothing here needs a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("NETFERRY_CACHE", str(tmp_path / "cache"))
    netferry.zoo.build("resnet50", tmp_path / "r.onnx", seed=0)
    pictures = sorted((Path(__file__).resolve().parents[2] / "fixtures").glob("digit_*.png"))
    found = netferry.predict(tmp_path / "r.onnx", pictures[:3], top=2)["predictions"]
    assert all(row["label"] in class_names("imagenet") for item in found for row in item["top"])
    assert not (tmp_path / "cache").exists()
