"""Packages: layouts that the stacks' own software accepts, idempotent, counted up, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

import netferry
from netferry.converters.serving.contents import model_name
from netferry.converters.serving.kserve import kubernetes_name
from netferry.errors import NetferryError, OutputError, UnsupportedError, UsageError
from netferry.runtime.feed import Feed
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Session
from tests.shared import REPOSITORY

FIXTURES = REPOSITORY / "fixtures"
NET = (FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel")
READING: dict[str, Any] = {
    "labels": FIXTURES / "digits_labels.txt",
    "mean_file": FIXTURES / "digits_mean.binaryproto",
    "recipe": {"scale": (1 / 256,)},
}
TARGETS = ["triton", "kserve", "mlflow", "huggingface", "dir"]


def packaged(out: Path, to: str, source: Any = NET[0], weights: Any = NET[1], **options: Any) -> dict[str, Any]:
    reading = READING if weights is not None else {}
    return netferry.package(source, out, weights, to=to, check="structure", **{**reading, **options})


def model(text: str, path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}'), path)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))[:, :, None]


def prepared(session: Session, path: Path) -> np.ndarray:
    feed = Feed(session)
    return preprocess(path, feed.recipe, feed.size)


# layouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "files"),
    [
        pytest.param("triton", ["digits/1/model.onnx", "digits/config.pbtxt", "digits/labels.txt",
                                "digits_ensemble/1/.keep", "digits_ensemble/config.pbtxt",
                                "digits_preprocess/1/model.onnx", "digits_preprocess/config.pbtxt"], id="triton"),
        pytest.param("kserve", ["inferenceservice.yaml", "labels.txt", "model.onnx"], id="kserve"),
        pytest.param("mlflow", ["MLmodel", "conda.yaml", "labels.txt", "model.onnx", "python_env.yaml",
                                "requirements.txt"], id="mlflow"),
        pytest.param("huggingface", ["README.md", "config.json", "onnx/model.onnx", "preprocessor_config.json"],
                     id="huggingface"),
        pytest.param("dir", ["labels.txt", "model.onnx", "preprocessing.json"], id="dir"),
    ],
)  # fmt: skip
def test_a_layout_is_complete(to: str, files: list[str], tmp_path: Path) -> None:
    result = packaged(tmp_path / "made" / "out", to)
    there = tree(tmp_path / "made" / "out")
    assert sorted(n for n in there if not n.endswith("netferry.json")) == files
    assert [u["version"] for u in result["units"]] == [1] * len(result["units"])
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["out"]
    for name in there:
        if name.endswith("model.onnx"):
            onnx.checker.check_model(onnx.load(tmp_path / "made" / "out" / name), full_check=True)


def test_triton_ensemble_prepares_pictures_as_predict_does(tmp_path: Path) -> None:
    packaged(tmp_path, "triton")
    net = Session(tmp_path / "digits" / "1" / "model.onnx", "cpu")
    prepare = Session(tmp_path / "digits_preprocess" / "1" / "model.onnx", "cpu")
    for path in sorted(FIXTURES.glob("digit_*.png")):
        tensor = prepare.run({"picture": grey(path)[None]})["data"]
        np.testing.assert_allclose(tensor[0], prepared(net, path), atol=2.01 / 256)
        assert int(net.run({"data": tensor})["prob"].argmax()) == int(path.name.split("_")[1])


@pytest.mark.parametrize("to", TARGETS)
def test_preprocessing_baked_in_answers_as_predict_does(to: str, tmp_path: Path) -> None:
    result = packaged(tmp_path / "out", to, preprocessing="embed", max_batch=4)
    (file,) = (tmp_path / "out").rglob("model.onnx")
    assert result["inputs"] == [{"name": "data", "dtype": "uint8", "shape": ["batch", "height", "width", 1]}]
    net, pictures = Session(file, "cpu"), sorted(FIXTURES.glob("digit_*.png"))
    expected = netferry.predict(NET[0], pictures, weights=NET[1], top=10, **READING)
    for picture, answer in zip(pictures, expected["predictions"], strict=True):
        row = net.run({"data": grey(picture)[None]})["prob"][0]
        scores = {top["class"]: top["score"] for top in answer["top"]}
        np.testing.assert_allclose(row, [scores[n] for n in range(10)], atol=2e-2)  # a grey level of resizing
        assert int(row.argmax()) == answer["top"][0]["class"]
    if to == "triton":
        config = (tmp_path / "out" / "digits" / "config.pbtxt").read_text()
        assert "data_type: TYPE_UINT8\n    dims: [ -1, -1, 1 ]" in config
        assert "max_batch_size: 4" in config
        assert [u["folder"] for u in result["units"]] == [str(tmp_path / "out" / "digits")]
    if to == "huggingface":
        processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
        assert not any(processor[f"do_{step}"] for step in ("resize", "center_crop", "rescale", "normalize"))
    assert packaged(tmp_path / "out", to, preprocessing="embed", max_batch=4)["units"][0]["unchanged"]


def test_baking_in_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    model = netferry.load(*NET, **READING)
    packaged(tmp_path / "a", "dir", model, None, preprocessing="embed")
    assert [(i.name, i.dtype) for i in model.inputs] == [("data", "float")]
    inside = tmp_path / "a" / "model.onnx"
    packaged(tmp_path / "r", "triton", inside, None)  # auto: what is inside needs no ensemble
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["model"]
    for preprocessing in ("embed", "ensemble"):
        with pytest.raises(UsageError, match="takes uint8 pictures already"):
            packaged(tmp_path / "n", "triton", inside, None, preprocessing=preprocessing)


def test_mlflow_signature_and_requirements(tmp_path: Path) -> None:
    packaged(tmp_path, "mlflow")
    found = yaml.safe_load((tmp_path / "MLmodel").read_text())
    (entry,) = json.loads(found["signature"]["inputs"])
    assert entry == {"name": "data", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 20, 20]}}
    assert json.loads(found["signature"]["outputs"])[0]["tensor-spec"]["shape"] == [-1, 10]
    assert {line.partition("=")[0].rstrip(">") for line in (tmp_path / "requirements.txt").read_text().split()} == {
        "mlflow", "numpy", "onnx", "onnxruntime",
    }  # fmt: skip
    assert found["model_size_bytes"] == (tmp_path / "model.onnx").stat().st_size


def test_huggingface_processor_normalises_as_the_recipe_does(tmp_path: Path) -> None:
    recipe = {"mean": (104.0, 117.0, 123.0), "scale": (0.017, 0.018, 0.019), "color": "BGR", "crop": (24, 24),
              "resize": "shortest", "size": (28, 28)}  # fmt: skip
    net = model("g (float[N, 3, 24, 24] x) => (float[N, 3, 24, 24] y) { y = Relu(x) }", tmp_path / "net.onnx")
    packaged(tmp_path / "hf", "huggingface", net, None, recipe=recipe)
    said = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    pixel = np.array([10.0, 100.0, 250.0])
    got = (pixel * said["rescale_factor"] - np.array(said["image_mean"])) / np.array(said["image_std"])
    np.testing.assert_allclose(got, (pixel - recipe["mean"]) * np.array(recipe["scale"]))
    assert (said["size"], said["crop_size"]) == ({"shortest_edge": 28}, {"height": 24, "width": 24})
    assert said["do_flip_channel_order"]


def test_kserve_names_the_storage(tmp_path: Path) -> None:
    assert any("assumed" in note for note in packaged(tmp_path / "a", "kserve")["notes"])
    packaged(tmp_path / "b", "kserve", storage_uri="s3://bucket/digits", name="My_Model.v2")
    service = yaml.safe_load((tmp_path / "b" / "inferenceservice.yaml").read_text())
    assert service["metadata"]["name"] == "my-model-v2"
    assert service["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "onnx"}, "protocolVersion": "v2", "storageUri": "s3://bucket/digits",
    }  # fmt: skip
    with pytest.raises(UsageError, match="storage URI"):
        packaged(tmp_path / "c", "kserve", storage_uri="ftp://x")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("text", "limit", "input_dims", "output_dims"),
    [
        pytest.param("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", 32, "[ 4 ]", "[ 4 ]", id="dynamic-batch"),
        pytest.param("g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }", 0, "[ 2, 4 ]", "[ 2, 4 ]", id="fixed"),
        pytest.param("g (float[time, 4] x) => (float[time, 4] y) { y = Relu(x) }", 0, "[ -1, 4 ]", "[ -1, 4 ]",
                     id="time-is-no-batch"),
        pytest.param("g (float[N, h, w] x) => (float[N] y) <int64[2] a = {1, 2}> "
                     "{ y = ReduceSum<keepdims = 0>(x, a) }", 32, "[ -1, -1 ]", "[ 1 ]", id="one-value-per-item"),
    ],
)  # fmt: skip
def test_triton_dimensions(text: str, limit: int, input_dims: str, output_dims: str, tmp_path: Path) -> None:
    packaged(tmp_path / "r", "triton", model(text, tmp_path / "net.onnx"), None)
    config = (tmp_path / "r" / "net" / "config.pbtxt").read_text()
    assert f"max_batch_size: {limit}\n" in config
    assert ("dynamic_batching" in config) is (limit > 0)
    dims = [line.partition(": ")[2] for line in config.splitlines() if line.strip().startswith("dims")]
    assert dims == [input_dims, output_dims]
    assert ("reshape: { shape: [ ] }" in config) is (output_dims == "[ 1 ]")


# again and again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", TARGETS)
def test_the_same_again_changes_nothing_and_another_counts_up(to: str, tmp_path: Path) -> None:
    packaged(tmp_path / "out", to)
    before = tree(tmp_path / "out")
    again = packaged(tmp_path / "out", to)
    assert all(unit["unchanged"] for unit in again["units"])
    assert tree(tmp_path / "out") == before
    other = packaged(tmp_path / "out", to, recipe={"scale": (1 / 128,)})
    unit = next(u for u in other["units"] if Path(u["folder"]).name in ("digits", "out"))
    assert (unit["version"], unit["unchanged"]) == (2, False)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    if to == "triton":
        after = tree(tmp_path / "out")
        assert after["digits/1/model.onnx"] == before["digits/1/model.onnx"]
        assert after["digits/2/model.onnx"] != before["digits/1/model.onnx"]


def test_what_others_put_into_the_folder_stays(tmp_path: Path) -> None:
    packaged(tmp_path, "triton")
    (tmp_path / "digits" / "notes.txt").write_text("mine")
    (tmp_path / "digits" / "7").mkdir()
    (tmp_path / "digits" / "7" / "model.onnx").write_text("by hand")
    result = packaged(tmp_path, "triton", recipe={"scale": (1 / 128,)})
    assert [u["version"] for u in result["units"]] == [2, 8, 1]
    assert (tmp_path / "digits" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "digits" / "7" / "model.onnx").read_text() == "by hand"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_edited_file_is_replaced_only_on_request(overwrite: bool, tmp_path: Path) -> None:
    packaged(tmp_path, "triton")
    config = tmp_path / "digits" / "config.pbtxt"
    original = config.read_text()
    config.write_text(original + "instance_group [ { count: 2 } ]\n")
    if overwrite:
        packaged(tmp_path, "triton", overwrite=True)
        assert config.read_text() == original
    else:
        before = tree(tmp_path)
        with pytest.raises(OutputError, match=r"config\.pbtxt"):
            packaged(tmp_path, "triton", recipe={"scale": (1 / 128,)})
        assert tree(tmp_path) == before


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not netferry's"):
        packaged(out, "dir")
    assert tree(tmp_path) == {"out/thesis.txt": b"mine"}
    packaged(out, "dir", overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"
    assert (out / "model.onnx").exists()


def test_a_manifest_that_points_outside_is_refused(tmp_path: Path) -> None:
    packaged(tmp_path / "out", "dir")
    path = tmp_path / "out" / "netferry.json"
    raw = json.loads(path.read_text())
    raw["files"]["../../secret"] = "0"
    path.write_text(json.dumps(raw))
    with pytest.raises(NetferryError, match="manifest"):
        packaged(tmp_path / "out", "dir", recipe={"scale": (1 / 128,)})


@pytest.mark.parametrize("failing", range(1, 6))
def test_a_failure_in_the_middle_puts_everything_back(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "repository"
    packaged(out, "triton", recipe={"scale": (1 / 64,)})
    before = tree(tmp_path)
    real, count = os.replace, 0

    def replace(a: Any, b: Any) -> None:
        nonlocal count
        count += Path(b).parent == out
        if count == failing and Path(b).parent == out:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr("netferry.converters.serving.placing.os.replace", replace)
    if failing > 4:  # two folders change, each by two moves
        packaged(out, "triton")
        return
    with pytest.raises(OutputError, match="No space"):
        packaged(out, "triton")
    assert tree(tmp_path) == before


# refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"to": "torchserve"}, "a package is for", id="no-such-stack"),
        pytest.param({"to": "triton", "name": "../up"}, "name is letters", id="name-leaves-the-folder"),
        pytest.param({"to": "mlflow", "preprocessing": "ensemble"}, "is for triton", id="ensemble-elsewhere"),
        pytest.param({"to": "triton", "max_batch": 0}, "at least 1", id="batch"),
        pytest.param({"to": "triton", "preprocessing": "some"}, "preprocessing is", id="preprocessing"),
    ],
)
def test_wrong_calls(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        packaged(tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preprocessing", ["ensemble", "embed"])
def test_an_ensemble_needs_a_recipe(preprocessing: str, tmp_path: Path) -> None:
    net = model("g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu(x) }", tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="no preprocessing"):
        packaged(tmp_path / "out", "triton", net, None, preprocessing=preprocessing)
    result = packaged(tmp_path / "out", "triton", net, None)
    assert [Path(u["folder"]).name for u in result["units"]] == ["net"]


def test_a_type_that_the_stack_lacks_is_refused(tmp_path: Path) -> None:
    net = model("g (bfloat16[N] x) => (bfloat16[N] y) { y = Identity(x) }", tmp_path / "net.onnx")
    with pytest.raises(UnsupportedError, match="MLflow"):
        packaged(tmp_path / "out", "mlflow", net, None)
    assert not (tmp_path / "out").exists()
    packaged(tmp_path / "out", "triton", net, None)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("a b/c", "a_b_c"), ("..", "model"), ("größe", "gr_e"), ("", "model"), ("v1.2-x", "v1.2-x")],
)
def test_names_made_of_file_names(stem: str, name: str) -> None:
    assert model_name(None, stem) == name


def test_kubernetes_names() -> None:
    assert kubernetes_name("Ünder_Score.X" + "y" * 99) == "nder-score-x" + "y" * 51
    assert kubernetes_name("___") == "model"


# the stacks' own software, in environments of their own --------------------------------------------------------

TRITON = """
import json, pathlib, sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
out = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/config.pbtxt")):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    out[path.parent.name] = {
        "name": config.name, "batch": config.max_batch_size, "platform": config.platform, "backend": config.backend,
        "input": [[t.name, model_config_pb2.DataType.Name(t.data_type), list(t.dims)] for t in config.input],
        "output": [[t.name, model_config_pb2.DataType.Name(t.data_type), list(t.dims)] for t in config.output],
        "labels": [t.label_filename for t in config.output],
        "steps": [[s.model_name, dict(s.input_map), dict(s.output_map)] for s in config.ensemble_scheduling.step],
    }
print(json.dumps(out))
"""
MLFLOW = """
import json, sys
import mlflow, numpy as np
folder, feed = sys.argv[1:]
model = mlflow.pyfunc.load_model(folder)
arrays = dict(np.load(feed))
made = model.predict(arrays)
print(json.dumps({name: np.asarray(v).tolist() for name, v in made.items()}))
"""


def elsewhere(variable: str, needs: str, script: str, *arguments: object) -> Any:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"needs {needs} in an environment of its own: {variable} names its python")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_tritonclient_reads_every_config(tmp_path: Path) -> None:
    packaged(tmp_path / "r", "triton")
    hostile = 'a "quoted\\" name\u2026 \x07'
    nets = {
        "odd": f"g (float[N, 4] x) => (float[N, 4] y) {{ y = Relu(x) }}|{hostile}",
        "many": "g (int64[N, t] ids, bool[N] flag, double[N, 2] z) => (int64[N, t] a, bool[N] b, double[N, 2] c) "
        "{ a = Identity(ids) b = Not(flag) c = Abs(z) }|",
        "fixed": "g (float16[2, 3] x) => (float16[2, 3] y) { y = Relu(x) }|",
        "text": "g (string[N] x) => (string[N] y) { y = Identity(x) }|",
        "scalar": "g (float x) => (float y) { y = Relu(x) }|",
    }
    for name, text in nets.items():
        graph, _, renamed = text.rpartition("|")
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {graph}')
        if renamed:
            proto.graph.input[0].name = proto.graph.node[0].input[0] = renamed
        onnx.save(proto, tmp_path / f"{name}.onnx")
        packaged(tmp_path / "r", "triton", tmp_path / f"{name}.onnx", None)
    packaged(tmp_path / "r", "triton", preprocessing="embed", name="inside")
    found = elsewhere("NETFERRY_TRITON_PYTHON", "tritonclient[grpc]", TRITON, tmp_path / "r")
    assert set(found) == {"digits", "digits_preprocess", "digits_ensemble", "inside", *nets}
    assert all(name == config["name"] for name, config in found.items())
    assert found["digits"]["input"] == [["data", "TYPE_FP32", [1, 20, 20]]]
    assert found["digits"]["labels"] == ["labels.txt"]
    assert found["digits_ensemble"]["platform"] == "ensemble"
    assert found["digits_ensemble"]["input"] == [["picture", "TYPE_UINT8", [-1, -1, 1]]]
    assert found["digits_ensemble"]["steps"] == [
        ["digits_preprocess", {"picture": "picture"}, {"data": "netferry_prepared"}],
        ["digits", {"data": "netferry_prepared"}, {"prob": "prob"}],
    ]
    assert found["inside"]["input"] == [["data", "TYPE_UINT8", [-1, -1, 1]]]
    assert (found["inside"]["batch"], found["inside"]["labels"]) == (32, ["labels.txt"])
    assert found["odd"]["input"][0][0] == hostile
    assert found["many"]["input"] == [["ids", "TYPE_INT64", [-1]], ["flag", "TYPE_BOOL", [1]], ["z", "TYPE_FP64", [2]]]
    assert (found["fixed"]["batch"], found["fixed"]["input"]) == (0, [["x", "TYPE_FP16", [2, 3]]])
    assert found["scalar"]["input"] == [["x", "TYPE_FP32", [1]]]


@pytest.mark.slow
def test_mlflow_loads_the_folder_and_predicts(tmp_path: Path) -> None:
    packaged(tmp_path / "m", "mlflow")
    session = Session(tmp_path / "m" / "model.onnx", "cpu")
    batch = np.stack([prepared(session, p) for p in sorted(FIXTURES.glob("digit_*.png"))])
    np.savez(tmp_path / "feed.npz", data=batch)
    found = elsewhere("NETFERRY_MLFLOW_PYTHON", "mlflow and onnxruntime", MLFLOW, tmp_path / "m", tmp_path / "feed.npz")
    np.testing.assert_allclose(found["prob"], session.run({"data": batch})["prob"], atol=1e-6)


@pytest.mark.slow
def test_mlflow_takes_pictures_where_the_preprocessing_is_inside(tmp_path: Path) -> None:
    packaged(tmp_path / "m", "mlflow", preprocessing="embed")
    pictures = sorted(FIXTURES.glob("digit_*.png"))[3:4]
    np.savez(tmp_path / "feed.npz", data=np.stack([grey(p) for p in pictures]))
    found = elsewhere("NETFERRY_MLFLOW_PYTHON", "mlflow and onnxruntime", MLFLOW, tmp_path / "m", tmp_path / "feed.npz")
    assert np.argmax(found["prob"], 1).tolist() == [int(p.name.split("_")[1]) for p in pictures]
