"""Heads: where a network decides, and other classes put there; what learns and how fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.errors import UsageError
from netferry.schemas.head import ending_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.learning import blocks, learning_table
from netferry.schemas.model import Model, Source
from netferry.schemas.tensors import array_of
from tests.shared import shared

HEADER = '<ir_version: 10, opset_import: ["": 21]> g '
ROWS = {
    "conv-pool-softmax": (
        "(float[N, 3, 8, 8] x) => (float[N, 7, 1, 1] y) "
        "<float[4, 3, 3, 3] a_w = {A}, float[7, 4, 1, 1] b_w = {B}, float[7] b_b = {C}> "
        "{ h = Conv(x, a_w) r = Relu(h) c = Conv(r, b_w, b_b) p = GlobalAveragePool(c) y = Softmax<axis=1>(p) }"
    ),
    "conv-relu-pool-flatten-logits": (
        "(float[N, 3, 8, 8] x) => (float[N, 7] y) "
        "<float[7, 3, 1, 1] b_w = {B}, float[7] b_b = {C}> "
        "{ c = Conv(x, b_w, b_b) r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p) }"
    ),
    "dense-softmax": (
        "(float[N, 5] x) => (float[N, 7] y) <float[7, 5] b_w = {B}, float[7] b_b = {C}> "
        "{ c = Gemm<transB=1>(x, b_w, b_b) y = Softmax(c) }"
    ),
    "matmul-add-logits": (
        "(float[N, 5] x) => (float[N, 7] y) <float[5, 7] b_w = {B}, float[7] b_b = {C}> "
        "{ c = MatMul(x, b_w) y = Add(c, b_b) }"
    ),
    "dense-batch-norm-softmax": (
        "(float[N, 5] x) => (float[N, 7] y) <float[5, 7] b_w = {B}, float[7] s = {C}, float[7] o = {C}, "
        "float[7] m = {C}, float[7] v = {C}> "
        "{ c = MatMul(x, b_w) n = BatchNormalization(c, s, o, m, v) y = Softmax(n) }"
    ),
    "reshape-names-the-classes": (
        "(float[N, 3, 1, 1] x) => (float[N, 7] y) <float[7, 3, 1, 1] b_w = {B}, float[7] b_b = {C}, "
        "int64[2] s = {-1, 7}> { c = Conv(x, b_w, b_b) r = Reshape(c, s) y = Softmax(r) }"
    ),
    "two-outputs": (
        "(float[N, 5] x) => (float[N, 3] aux, float[N, 7] y) "
        "<float[5, 3] a_w = {A}, float[5, 4] h_w = {H}, float[4, 7] b_w = {B}, float[7] b_b = {C}> "
        "{ a = MatMul(x, a_w) aux = Softmax(a) h = MatMul(x, h_w) c = Gemm(h, b_w, b_b) y = Softmax(c) }"
    ),
    "logits-and-scores": (
        "(float[N, 5] x) => (float[N, 7] c, float[N, 7] y) <float[5, 7] b_w = {B}, float[7] b_b = {C}> "
        "{ c = Gemm(x, b_w, b_b) y = Softmax(c) }"
    ),
}


def network(name: str) -> Model:
    """A row's network with weights of ones, halves …; seeded values would say nothing more."""
    text = ROWS[name]
    for key, start in (("{A}", 1), ("{B}", 2), ("{C}", 3), ("{H}", 4)):
        while key in text:
            before = text[: text.index(key)]
            dims = [int(d) for d in before[before.rindex("[") + 1 : before.rindex("]")].split(",")]
            values = np.random.default_rng([start, len(before)]).random(dims).ravel() + 0.5
            text = text.replace(key, "{" + ", ".join(f"{v:.4f}" for v in values) + "}", 1)
    return Model(ir.from_onnx_text(HEADER + text), source=Source("onnx"))


@pytest.mark.parametrize("name", ROWS)
def test_another_number_of_classes_changes_the_head_and_nothing_else(name: str, tmp_path: Path) -> None:
    model = network(name)
    before = {k: array_of(v) for k, v in model.graph.initializers.items()}
    ending = ending_of(model)
    assert ending.output.name == "y"
    assert (ending.size, ending.why) == (7, "")
    assert (ending.activation is not None) == ("logits" not in name or name == "logits-and-scores")
    made = model.with_head(["a", "b", "c"], seed=1)
    after = {k: array_of(v) for k, v in made.graph.initializers.items()}
    assert list(after) == list(before)
    for key, array in before.items():
        now = after[key]
        assert array is not None
        assert now is not None
        if 7 in array.shape or key == "s":
            assert now.shape == tuple(3 if d == 7 else d for d in array.shape)
        else:
            assert array.tobytes() == now.tobytes()
        assert np.array_equal(array_of(model.graph.initializers[key]), array), "the network itself stays"
    assert made.labels == {"y": ["a", "b", "c"]}
    assert [n.op_type for n in made.graph] == [n.op_type for n in model.graph]
    made.save(tmp_path / "made.onnx")
    weight = after["b_w"]
    assert weight is not None
    assert np.abs(weight).max() <= (weight.size / 3) ** -0.5  # torch's rule: uniform within 1/sqrt(fan in)
    again = array_of(model.with_head(3, seed=1).graph.initializers["b_w"])
    other = array_of(model.with_head(3, seed=2).graph.initializers["b_w"])
    assert np.array_equal(weight, again)
    assert not np.array_equal(weight, other)


FEATURES = {
    "joined-branches": "(float[N, 3, 4, 4] x) => (float[N, 8, 1, 1] y) <float[4, 3, 1, 1] a_w = {A}, "
    "float[4, 3, 1, 1] b_w = {B}> { a = Conv(x, a_w) b = Conv(x, b_w) c = Concat<axis=1>(a, b) "
    "y = GlobalAveragePool(c) }",
    "a-map": "(float[N, 3, 4, 4] x) => (float[N, 7, 4, 4] y) <float[7, 3, 1, 1] b_w = {B}, float[7] b_b = {C}> "
    "{ y = Conv(x, b_w, b_b) }",
    "normalized-again": "(float[N, 3, 4, 4] x) => (float[N, 7, 1, 1] y) <float[7, 3, 1, 1] b_w = {B}, "
    "float[7] s = {C}, float[7] o = {C}, float[7] m = {C}, float[7] v = {C}> "
    "{ c = Conv(x, b_w) n = BatchNormalization(c, s, o, m, v) r = Relu(n) y = GlobalAveragePool(r) }",
    "groups": "(float[N, 4, 4, 4] x) => (float[N, 8, 1, 1] y) <float[8, 2, 1, 1] b_w = {B}, float[8] b_b = {C}> "
    "{ c = Conv<group=2>(x, b_w, b_b) y = GlobalAveragePool(c) }",
    "windows": "(float[N, 3, 4, 4] x) => (float[N, 7, 1, 1] y) <float[7, 3, 3, 3] b_w = {B}, float[7] b_b = {C}> "
    "{ c = Conv(x, b_w, b_b) y = GlobalAveragePool(c) }",
    "without-a-bias": "(float[N, 3, 4, 4] x) => (float[N, 7, 1, 1] y) <float[7, 3, 1, 1] b_w = {B}> "
    "{ c = Conv(x, b_w) y = GlobalAveragePool(c) }",
    "grown": "(float[N, 3, 4, 4] x) => (float[N, 7, 1, 1] y) <float[3, 7, 2, 2] b_w = {B}, float[7] b_b = {C}> "
    "{ c = ConvTranspose(x, b_w, b_b) y = GlobalAveragePool(c) }",
    "steps-behind-a-product": "(float[N, 4, 5] x) => (float[N, 4, 7] y) <float[5, 7] b_w = {B}> { y = MatMul(x, b_w) }",
    "nothing-learns": "(float[N, 6, 4, 4] x) => (float[N, 6, 1, 1] y) { y = GlobalAveragePool(x) }",
    "residual": "(float[N, 3, 4, 4] x) => (float[N, 3, 1, 1] y) <float[3, 3, 1, 1] b_w = {B}, float[3] b_b = {C}> "
    "{ c = Conv(x, b_w, b_b) a = Add(c, x) y = GlobalAveragePool(a) }",
}


@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("name", FEATURES)
def test_a_network_that_ends_in_features_gets_a_head_on_top(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, name, FEATURES[name])
    model = network(name)
    assert ending_of(model).why
    made = model.with_head(["a", "b"], kind=kind)
    assert made.head() == ("head", ("weight", "bias"))
    assert [o.as_dict() for o in made.outputs] == [{"name": "prob", "dtype": "float", "shape": ["N", 2]}]
    assert made.save(tmp_path / "made.onnx")["checks"][-1]["outcome"] == "passed"
    assert any("ends in features" in note.message for note in made.notes)


def test_values_per_class_behind_the_classifier_follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A learnt temperature per class starts as no temperature; a constant one is said to be lost."""
    text = (
        "(float[N, 5] x) => (float[N, 7] y) <float[5, 7] b_w = {B}, float[7] b_b = {C}, float[7] t = {C}> "
        "{ c = Gemm(x, b_w, b_b) d = Mul(c, t) y = Softmax(d) }"
    )
    monkeypatch.setitem(ROWS, "scaled", text)
    model = network("scaled")
    made = model.with_head(3)
    assert np.array_equal(array_of(made.graph.initializers["t"]), np.ones(3, np.float32))  # pyright: ignore
    assert any("'t' was per class" in n.message for n in made.notes)
    made.save(tmp_path / "made.onnx")


def test_weights_that_others_read_stay_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network with two ends of one bias: the end that stays keeps its values."""
    text = (
        "(float[N, 5] x) => (float[N, 7] y, float[N, 7] z) <float[5, 7] b_w = {B}, float[7] b_b = {C}, "
        "float[5, 7] a_w = {A}> { c = Gemm(x, b_w, b_b) y = Softmax(c) d = MatMul(x, a_w) z = Mul(d, b_b) }"
    )
    monkeypatch.setitem(ROWS, "shared", text)
    model = network("shared")
    kept = array_of(model.graph.initializers["b_b"])
    made = model.with_head(3, output="y")
    assert np.array_equal(array_of(made.graph.initializers["b_b"]), kept)  # pyright: ignore
    assert made.graph.initializers["b_b.new"].shape == (3,)
    made.save(tmp_path / "made.onnx")


REFUSED = {
    "two-values": (
        "(float[N, 6] x) => (float[N, 7] y) <float[3, 7] b_w = {B}> "
        "{ p, q = Split<axis=1,num_outputs=2>(x) a = Mul(p, q) y = MatMul(a, b_w) }", {"at": "Split_0"},
        "gives 2 values of numbers"),
    "features-of-no-fixed-number": (
        "(float[N, A, 4, 4] x) => (float[N, A, 4, 4] y) { y = Relu(x) }", {}, "is not fixed"),
    "no-axes": ("(float x) => (float y) { y = Relu(x) }", {}, "gives no features for a head"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_ends_that_take_no_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, settings, why = REFUSED[name]
    monkeypatch.setitem(ROWS, name, text)
    model = network(name)
    for i, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{i}"
    with pytest.raises(netferry.NetferryError, match=why):
        model.with_head(3, **settings)


def test_a_head_beside_a_layer_of_its_name(tmp_path: Path) -> None:
    made = network("conv-pool-softmax").with_head(2, kind="conv")
    again = made.with_head(3, at="head", kind="linear")
    assert [row.name for row in again.layers if row.name.startswith("head")][-1] != "head/activation"
    assert again.outputs[0].as_dict()["shape"] == ["N", 3]
    again.save(tmp_path / "made.onnx")


@pytest.mark.parametrize(
    ("task", "ends"), [("classes", ["Softmax"]), ("labels", ["Sigmoid"]), ("values", ["GlobalAveragePool", "Identity"])]
)
def test_the_end_fits_the_task(task: str, ends: list[str], tmp_path: Path) -> None:
    made = network("conv-pool-softmax").with_head(["a", "b"], task=task)
    assert [n.op_type for n in made.graph][-1] in ends
    assert made.outputs[0].name == "y"
    made.save(tmp_path / "made.onnx")
    made = network("conv-relu-pool-flatten-logits").with_head(["a", "b"], task=task)
    kinds = [n.op_type for n in made.graph]
    assert ("Relu" in kinds) == (task == "classes")
    assert kinds[-1] == ("Sigmoid" if task == "labels" else "Flatten")
    made.save(tmp_path / "made.onnx")


def test_a_head_deeper_in_the_network(tmp_path: Path) -> None:
    model = netferry.load("fixtures/digits.prototxt", "fixtures/digits.caffemodel")
    made = model.with_head(["even", "odd"], at="pool2")
    assert [row.name for row in made.layers][-3:] == ["head/pool", "head", "head/activation"]
    assert {n.partition(".")[0] for n in made.graph.initializers} == {"conv1", "conv2", "head"}
    assert [o.name for o in made.outputs] == ["prob"]
    made.save(tmp_path / "made.onnx")
    with pytest.raises(UsageError, match="no layer 'pool3'") as caught:
        model.with_head(2, at="pool3")
    assert "'pool2'" in str(caught.value.hint)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda m: m.with_head(["a", "a"]), id="equal-classes"),
        pytest.param(lambda m: m.with_head(0), id="no-classes"),
        pytest.param(lambda m: m.with_head(2, kind="cubic"), id="kind"),
        pytest.param(lambda m: m.with_head(2, task="ranks"), id="task"),
        pytest.param(lambda m: m.with_head(2, output="z"), id="output"),
        pytest.param(lambda m: m.freeze(["nothing"]), id="freeze"),
        pytest.param(lambda m: m.unfreeze("nothing"), id="unfreeze"),
        pytest.param(lambda m: m.set_lr_factor("ip2", "gamma", 1), id="parameter"),
        pytest.param(lambda m: m.set_lr_factor("ip2", None, -1), id="factor"),
    ],
)
def test_calls_that_cannot_be(wrong: Callable[[Model], object]) -> None:
    with pytest.raises((UsageError, netferry.NetferryError)):
        wrong(netferry.load("fixtures/digits.prototxt", "fixtures/digits.caffemodel"))


def test_what_learns_and_how_fast() -> None:
    model = netferry.load("fixtures/digits.prototxt", "fixtures/digits.caffemodel")
    assert model.head() == ("ip2", ("weight", "bias"))
    assert model.freeze() == ["conv1", "conv2", "ip1"]
    assert model.set_lr_factor("ip2", "weight", 10) == ["ip2.weight"]
    assert model.set_lr_factor("ip2", "ip2.bias", 20) == ["ip2.bias"]
    table = {row["initializer"]: (row["factor"], row["frozen"]) for row in learning_table(model)}
    assert table["ip1.weight"] == (0.0, True)
    assert (table["ip2.weight"], table["ip2.bias"]) == ((10.0, False), (20.0, False))
    assert model.unfreeze("ip1") == ["ip1", "ip2"]
    assert model.frozen == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    copied = model.copy()
    copied.unfreeze()
    assert (copied.frozen, len(model.frozen)) == (set(), 4)
    assert model.freeze(except_=[]) == ["conv1", "conv2", "ip1", "ip2"]
    assert blocks(model) == [["conv1"], ["conv2"], ["ip1"], ["ip2"]]


@pytest.mark.parametrize(
    ("files", "head", "size", "style"),
    [
        (("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1.caffemodel"), "conv10", 1000, "caffe"),
        (("tiny/resnet8_cifar10.h5",), "dense", 10, "keras"),
        (("tiny/mobilenet_v1_0.25_vww.h5",), "dense", 2, "keras"),
        (("mini-xception/tiny_XCEPTION_KDEF.hdf5",), "conv2d_7", 7, "keras"),
        (("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel"), "ip2", 10, "caffe"),
    ],
)
def test_real_networks(files: tuple[str, ...], head: str, size: int, style: str) -> None:
    model = netferry.load(*(shared("data", f) for f in files))
    assert model.head() == (head, ("weight", "bias"))
    assert ending_of(model).size == size
    made = model.with_head(["a", "b", "c", "d", "e"])
    assert made.head() == model.head()
    for name, value in model.parameters(None).items():
        if not name.startswith(f"{head}."):
            assert np.array_equal(array_of(value), array_of(made.parameters(None)[name])), name
    weight, bias = (array_of(made.parameters(Role.LEARNABLE)[f"{head}.{p}"]) for p in ("weight", "bias"))
    assert weight is not None
    assert bias is not None
    assert not bias.any()
    fan_out = weight.shape[0] * int(np.prod(weight.shape[2:]))
    fan_in = weight.size // weight.shape[0]
    bound = (3 / fan_in) ** 0.5 if style == "caffe" else (6 / (fan_in + fan_out)) ** 0.5
    assert 0.9 * bound < np.abs(weight).max() <= bound * 1.0001


def test_a_keras_network_without_its_top() -> None:
    folder = "data/keras-squeezenet/squeezenet_tf_notop"
    model = netferry.load(shared(f"{folder}_keras2.json"), shared(f"{folder}.h5"))
    for made in (model.with_head(5), model.with_head(5, at="drop9"), model.with_head(5, at="fire9/concat")):
        assert [o.as_dict() for o in made.outputs] == [{"name": "prob", "dtype": "float", "shape": ["batch", 5]}]
        assert made.head().layer == "head"
