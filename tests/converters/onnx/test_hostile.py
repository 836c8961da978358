"""Files from strangers: one typed error, nothing outside the model's folder opened."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import netferry
from netferry.converters.options import Limits
from netferry.converters.protobuf import varint
from netferry.errors import InputError, LimitExceeded, MalformedFile, NetferryError, UnsafeFile, UsageError
from netferry.schemas.tensors import array_of
from tests.attacks import unusual_onnx
from tests.converters.onnx import models
from tests.converters.onnx.models import load, stored


def outside(location: str, *, offset: int | None = 0, length: int | None = 4096) -> onnx.ModelProto:
    """The linear model with W in another file."""
    proto = models.linear()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return proto


def data(path: Path, size: int = 4096) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(models.weights(32, 32).tobytes()[:size])
    return path


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "sub/../../secret.bin", "a/..", "sub\\secret.bin", "x\0y", "", "/etc/passwd", "link.bin",
     "folder.link/secret.bin", "pipe", "folder"],
)  # fmt: skip
@pytest.mark.parametrize("relative", [False, True], ids=["absolute-path", "bare-name"])
def test_data_outside_the_folder(
    location: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = data(tmp_path / "secret.bin")
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (folder / "sub").mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "folder.link").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    path = stored(folder / "net.onnx", outside(location.replace("/etc", str(tmp_path))))
    if relative:
        monkeypatch.chdir(folder)
        path = Path("net.onnx")
    with pytest.raises(UnsafeFile):
        load(path)


@pytest.mark.parametrize("kind", ["beside", "below", "hard-link", "link-inside", "hub"])
def test_data_inside_is_fine(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    location = "sub/w.bin" if kind == "below" else "w.bin"
    folder.mkdir()
    if kind == "hard-link":
        (folder / location).hardlink_to(data(tmp_path / "elsewhere.bin"))
    elif kind == "link-inside":
        (folder / location).symlink_to(data(folder / "real" / "w.bin"))
    elif kind == "hub":  # snapshots of links into a folder of blobs
        (folder / location).symlink_to(data(tmp_path / "blobs" / "1"))
        (folder / "net.onnx").symlink_to(stored(tmp_path / "blobs" / "2", outside(location)))
    else:
        data(folder / location)
    path = folder / "net.onnx"
    model = load(path if kind == "hub" else stored(path, outside(location)))
    np.testing.assert_array_equal(array_of(model.graph.initializers["w"]), models.weights(32, 32))
    assert len(model.source.files) == 2


def test_data_file_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.bin"):
        load(stored(tmp_path / "net.onnx", outside("gone.bin")))


@pytest.mark.parametrize(
    "change",
    [{"offset": 4}, {"offset": -4}, {"length": 4000}, {"length": 5000}, {"offset": 1 << 70}, {"length": -1}],
    ids=str,
)
def test_data_that_is_not_there(change: dict[str, int], tmp_path: Path) -> None:
    data(tmp_path / "w.bin")
    with pytest.raises(MalformedFile):
        load(stored(tmp_path / "net.onnx", outside("w.bin", **change)))


def _initializer_twice(m: onnx.ModelProto) -> None:
    m.graph.initializer.append(m.graph.initializer[1])


def _domain_twice(m: onnx.ModelProto) -> None:
    m.opset_import.append(helper.make_opsetid("ai.onnx", 20))


def _short(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].raw_data = m.graph.initializer[0].raw_data[:-4]


def _huge(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].dims[:] = [2**31 - 1, 2**31 - 1, 4]


def _negative(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].dims[:] = [-32]


def _unknown_type(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].data_type = 99


def _undeclared(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[1] = "nothing"


def _made_twice(m: onnx.ModelProto) -> None:
    m.graph.node[1].output[0] = "h"


def _no_graph(m: onnx.ModelProto) -> None:
    m.ClearField("graph")


def _no_opset(m: onnx.ModelProto) -> None:
    del m.opset_import[:]


def _no_ir_version(m: onnx.ModelProto) -> None:
    m.ClearField("ir_version")


def _nameless(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].name = ""


def _recursive(m: onnx.ModelProto) -> None:
    node = helper.make_node("f", ["a"], ["b"], domain="own")
    m.functions.append(helper.make_function("own", "f", ["a"], ["b"], [node], [helper.make_opsetid("own", 1)]))


def _too_few_inputs(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[:] = ["x"]


def _too_many_inputs(m: onnx.ModelProto) -> None:
    m.graph.node[0].input.append("x")


def _too_many_outputs(m: onnx.ModelProto) -> None:
    m.graph.node[0].output.append("more")


def _constant_of_something(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["c"], Value_int=3))


def _default_of_another_size(m: onnx.ModelProto) -> None:
    m.graph.input.append(helper.make_tensor_value_info(m.graph.initializer[1].name, onnx.TensorProto.FLOAT, [3]))


def _default_of_another_type(m: onnx.ModelProto) -> None:
    weight = m.graph.initializer[1]
    m.graph.input.append(helper.make_tensor_value_info(weight.name, onnx.TensorProto.DOUBLE, list(weight.dims)))


def _without_a_needed_attribute(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Concat", ["x", "x"], ["c"], axes=0))


def _attribute_of_another_type(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Softmax", ["x"], ["c"], axis=1.5))


def _attribute_of_an_older_type(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Cast", ["x"], ["c"], to="FLOAT"))


def _attribute_without_value(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("ConstantOfShape", ["x"], ["c"]))
    m.graph.node[-1].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)


@pytest.mark.parametrize(
    "spoil",
    [_default_of_another_size, _default_of_another_type, _without_a_needed_attribute, _attribute_of_another_type,
     _attribute_of_an_older_type, _attribute_without_value, _too_few_inputs, _too_many_inputs, _too_many_outputs,
     _constant_of_something, _initializer_twice, _domain_twice,
     _short, _huge, _negative, _unknown_type, _undeclared, _made_twice, _no_graph, _no_opset, _no_ir_version,
     _nameless, _recursive],
)  # fmt: skip
def test_contradictions(spoil: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    proto = models.linear()
    spoil(proto)
    with pytest.raises(MalformedFile) as caught:
        load(stored(tmp_path / "net.onnx", proto))
    assert caught.value.file == str(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "old", [b"netferry-test", b"\x01h", b"MatMul", b"\x01w"], ids=["producer", "value", "operator", "weight"]
)
def test_text_that_is_no_utf8(old: bytes, tmp_path: Path) -> None:
    proto = models.linear()
    proto.producer_name = "netferry-test"
    content = proto.SerializeToString()
    assert old in content
    path = tmp_path / "net.onnx"
    path.write_bytes(content.replace(old, old[:-1] + b"\xff"))
    with pytest.raises(MalformedFile, match="UTF-8"):
        load(path)


def test_the_name_of_a_data_file_that_is_no_utf8(tmp_path: Path) -> None:
    proto = models.linear()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString().replace(b"weights.bin", b"weights.bi\xff"))
    with pytest.raises(MalformedFile, match="UTF-8"):
        load(path)


def test_weights_declared_as_inputs_of_open_sizes(tmp_path: Path) -> None:
    """Files of IR 3 list initializers among the inputs; some say no sizes there."""
    proto = models.linear()
    proto.ir_version = 3
    for weight in proto.graph.initializer:
        sizes = [f"{weight.name}{i}" for i in range(len(weight.dims))]
        proto.graph.input.append(helper.make_tensor_value_info(weight.name, onnx.TensorProto.FLOAT, sizes))
    path = stored(tmp_path / "net.onnx", proto)
    shown = netferry.inspect(path)
    assert [row["learnables"] for row in shown["layers"] if row["learnables"]] == [{"w": [32, 32]}, {"b": [32]}]
    netferry.convert(path, tmp_path / "out.onnx")


def test_inference_does_not_write_a_range_down(tmp_path: Path) -> None:
    """onnx's inference follows values; of a Range it makes a list of all elements."""
    proto = models.linear()
    for name, value in (("start", 0), ("limit", 1 << 50), ("step", 1)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    proto.graph.node.append(helper.make_node("Range", ["start", "limit", "step"], ["many"]))
    path = stored(tmp_path / "net.onnx", proto)
    started = time.process_time()
    netferry.inspect(path)
    assert time.process_time() - started < 2


def test_no_elements_of_a_shape_beyond_all_arrays(tmp_path: Path) -> None:
    proto = models.linear()
    proto.graph.initializer.append(onnx.TensorProto(name="none", data_type=1, dims=[0, 2**31 - 1, 2**31 - 1]))
    with pytest.raises(LimitExceeded):
        load(stored(tmp_path / "net.onnx", proto))


def test_a_functions_own_setting_where_it_imports_no_opset(tmp_path: Path) -> None:
    """Nothing is inferred of a node whose attribute the caller of the function sets."""
    proto = models.linear(opset=17)
    node = helper.make_node("LeakyRelu", ["a"], ["b"])
    node.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    proto.functions.append(helper.make_function("own", "f", ["a"], ["b"], [node], [], ["slope"]))
    proto.graph.node.append(helper.make_node("f", ["y"], ["z"], domain="own", slope=0.5))
    proto.graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 32]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    with suppress(NetferryError):
        netferry.convert(stored(tmp_path / "net.onnx", proto), tmp_path / "out.onnx", optimize="full")
    with suppress(NetferryError):
        netferry.inspect(tmp_path / "net.onnx")


def test_functions_that_double(tmp_path: Path) -> None:
    proto = models.linear()
    domain = helper.make_opsetid("own", 1)
    for i in range(40):
        body = [helper.make_node(f"f{i + 1}" if i < 39 else "Neg", [a], [b], domain="own" if i < 39 else "")
                for a, b in (("a", "b"), ("b", "c"))]  # fmt: skip
        proto.functions.append(
            helper.make_function("own", f"f{i}", ["a"], ["c"], body, [domain, proto.opset_import[0]])
        )
    proto.graph.node.append(helper.make_node("f0", ["x"], ["z"], domain="own"))
    with pytest.raises(LimitExceeded, match="nodes"):
        load(stored(tmp_path / "net.onnx", proto))


def test_every_truncation_is_one_typed_error(tmp_path: Path) -> None:
    whole = models.linear().SerializeToString()
    path = tmp_path / "net.onnx"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            load(path)
        except NetferryError:
            continue
        # protobuf has no end mark: a cut between two fields is a shorter message
        assert onnx.ModelProto.FromString(whole[:size]).opset_import


def test_flipped_bytes_are_typed_errors_or_models(tmp_path: Path) -> None:
    whole = bytearray(models.branches().SerializeToString()[:3000] + models.linear().SerializeToString()[:50])
    sound = models.linear().SerializeToString()
    path = tmp_path / "net.onnx"
    rng = np.random.default_rng(0)
    for source in (whole, sound):
        for _ in range(1500):
            bad = bytearray(source)
            # the header and structure rather than the weights
            at = int(rng.integers(0, 400)) if rng.random() < 0.7 else -1 - int(rng.integers(0, 400))
            bad[at] = int(rng.integers(0, 256))
            path.write_bytes(bad)
            with suppress(NetferryError):
                load(path)


@pytest.mark.parametrize("content", [b"", b"\x08", b"GIF89a" * 50, b"\xff" * 500, b"\x08\x0a" * 300], ids=repr)
def test_garbage(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(MalformedFile):
        load(tmp_path / "net.onnx")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load(tmp_path / "net.onnx")
    with pytest.raises(InputError):
        load(tmp_path)


@pytest.mark.parametrize("levels", [60, 150])
def test_nesting(levels: int, tmp_path: Path) -> None:
    graph = models.linear().graph.SerializeToString()
    for _ in range(levels):  # attribute.g = 6, node.attribute = 5, graph.node = 1
        for number in (6, 5, 1):
            graph = varint(number << 3 | 2) + varint(len(graph)) + graph
    head = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 21)]).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(head + b"\x3a" + varint(len(graph)) + graph)
    with pytest.raises(MalformedFile if levels < 100 else LimitExceeded, match="nested"):
        load(tmp_path / "net.onnx")


def test_limits(tmp_path: Path) -> None:
    path = stored(tmp_path / "net.onnx", models.linear())
    with pytest.raises(LimitExceeded, match="rank"):
        load(path, limits=Limits(rank=1))
    with pytest.raises(LimitExceeded, match="message_bytes"):
        load(path, limits=Limits(message_bytes=path.stat().st_size - 1))
    load(path, limits=Limits(rank=2, message_bytes=path.stat().st_size))


def test_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    proto = models.linear()
    _undeclared(proto)
    with pytest.raises(MalformedFile):
        load(stored(tmp_path / "net.onnx", proto))
    assert capfd.readouterr().err == ""


def test_batch_and_shapes(tmp_path: Path) -> None:
    path = stored(tmp_path / "net.onnx", models.linear())
    assert load(path, batch=4).inputs[0].shape == (4, 32)
    assert load(path, batch=4).outputs[0].shape == (4, 32)
    assert load(path, input_shapes={"x": (2, 32)}).outputs[0].shape == (2, 32)
    for wrong in ({"x": (2, 31)}, {"x": (2,)}, {"z": (2, 32)}):
        with pytest.raises(UsageError):
            load(path, input_shapes=wrong)
    with pytest.raises(UsageError):
        load(path, weights=path)


def test_time_is_linear(tmp_path: Path) -> None:
    import time

    took: list[float] = []
    for count in (4000, 16000):
        path = stored(tmp_path / f"{count}.onnx", models.chain(count))
        started = time.process_time()
        load(path)
        took.append(time.process_time() - started)
    assert took[1] < 10 * took[0] + 0.5


def test_token_in_the_file_means_nothing(tmp_path: Path) -> None:
    proto = outside("netferry-" + "0" * 32)
    with pytest.raises(InputError):
        load(stored(tmp_path / "net.onnx", proto))
    assert numpy_helper.to_array(proto.graph.initializer[1]).shape == (32,)


def test_an_add_of_another_domain_and_of_one_input(tmp_path: Path) -> None:
    """It is no sum with a bias, whatever it is called."""
    net = unusual_onnx.linear()
    net.opset_import.append(onnx.helper.make_opsetid("own", 1))
    net.graph.initializer[1].name = "b0"
    net.graph.node.insert(0, onnx.helper.make_node("Add", ["b0"], ["b"], domain="own"))
    (tmp_path / "net.onnx").write_bytes(net.SerializeToString())
    assert "own" in netferry.load(tmp_path / "net.onnx").ir.opset_imports
