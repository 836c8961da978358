"""Sound front ends against a NumPy float64 reference written from the AudioSet release's description."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.waveform import add_front_end, front_end_model, record, remove_front_end
from netferry.errors import MalformedFile, UsageError
from netferry.runtime.session import Session
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.sound import RECIPES, SOUND_KEY, SoundRecipe, recipes_of

RATE = 16_000


def reference(waveform: np.ndarray, offset: float, hop: int, pad: bool) -> np.ndarray:
    """Log-mel patches in float64: np.fft, triangles one band at a time."""
    x = waveform.astype(np.float64)
    whole = 15_600  # 96 windows of 400 samples, 160 apart
    beyond = max(len(x) - whole, 0)
    if pad:
        length = whole + -(-beyond // (hop * 160)) * hop * 160
        x = np.concatenate([x, np.zeros(max(length - len(x), 0))])
    x = np.concatenate([x, np.zeros(max(whole - len(x), 0))])
    count = 1 + (len(x) - 400) // 160
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(400) / 400))
    frames = np.stack([x[160 * i : 160 * i + 400] * window for i in range(count)])
    magnitude = np.abs(np.fft.rfft(frames, 512))

    def mel(f: float) -> float:
        return 1127.0 * np.log(1.0 + f / 700.0)

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    weights = np.zeros((257, 64))
    for band in range(64):
        for k in range(1, 257):
            m = mel(k * RATE / 512)
            up = (m - edges[band]) / (edges[band + 1] - edges[band])
            down = (edges[band + 2] - m) / (edges[band + 2] - edges[band + 1])
            weights[k, band] = max(0.0, min(up, down))
    log = np.log(magnitude @ weights + offset)
    return np.stack([log[s : s + 96] for s in range(0, count - 95, hop)])


def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    t = np.arange(3 * RATE) / RATE
    return {
        "tone": 0.9 * np.sin(2 * np.pi * 440 * t),
        "high-tone": np.sin(2 * np.pi * 7000 * t),
        "noise": rng.uniform(-1, 1, 5 * RATE),
        "quiet": 1e-4 * rng.standard_normal(2 * RATE),
        "silence": np.zeros(RATE),
        "chirp": np.sin(2 * np.pi * (100 * t + 1000 * t**2)),
        "clicks": (np.arange(4 * RATE) % 3000 == 0).astype(float),
        "short": rng.uniform(-1, 1, 1000),
        "one-sample": np.ones(1),
        "one-patch": rng.uniform(-1, 1, 15_600),
        "one-more": rng.uniform(-1, 1, 15_601),
        "two-patches": rng.uniform(-1, 1, 15_600 + 15_360),
    }


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("sound", sounds())
def test_front_end(tmp_path: Path, name: str, sound: str) -> None:
    recipe, waveform = RECIPES[name], sounds()[sound].astype(np.float32)
    netferry.save(front_end_model(recipe), tmp_path / "f.onnx")
    got = Session(tmp_path / "f.onnx", "cpu").run({"waveform": waveform})["patches"]
    wanted = reference(waveform, recipe.offset, recipe.patch_hop, recipe.pad)
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    assert len(got) == recipe.patches(len(waveform))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "seconds", "patches"),
    [
        pytest.param("vggish", 1.0, 1, id="one-second-is-one-vggish-patch"),
        pytest.param("vggish", 5.0, 5, id="vggish-5s"),
        pytest.param("vggish", 0.1, 1, id="vggish-short"),
        pytest.param("yamnet", 1.0, 2, id="yamnet-1s"),
        pytest.param("yamnet", 10.0, 20, id="yamnet-10s"),
        pytest.param("yamnet", 0.975, 1, id="yamnet-one-patch"),
    ],
)
def test_number_of_patches(name: str, seconds: float, patches: int) -> None:
    assert RECIPES[name].patches(round(seconds * RATE)) == patches


def network(shape: tuple[int | str, ...]) -> Model:
    b = Builder("net")
    x = b.input("patches", shape)
    with b.layer("embedding", "Reduce"):
        y = b.op("ReduceMean", x, b.const(list(range(1, len(shape)))), keepdims=0)
    b.output(y, "scores")
    b.finish()
    return Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))


@pytest.mark.parametrize("shape", [("n", 96, 64), ("n", 1, 96, 64), ("n", 96, 64, 1)], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_in_front_of_a_network(tmp_path: Path, shape: tuple[int | str, ...], name: str) -> None:
    model = network(shape)
    add_front_end(model, RECIPES[name])
    netferry.save(model, tmp_path / "n.onnx")
    again = netferry.load(tmp_path / "n.onnx")
    assert netferry.inspect(again)["warnings"] == []
    assert [i.as_dict() for i in again.inputs] == [{"name": "waveform", "dtype": "float", "shape": ["samples"]}]
    assert recipes_of(again.ir.metadata_props[SOUND_KEY]) == {"waveform": RECIPES[name]}
    assert {row.name for row in again.layers} == {"waveform", "front_end", "embedding"}
    waveform = sounds()["noise"].astype(np.float32)
    got = Session(tmp_path / "n.onnx", "cpu").run({"waveform": waveform})["scores"]
    wanted = reference(waveform, RECIPES[name].offset, RECIPES[name].patch_hop, RECIPES[name].pad)
    np.testing.assert_allclose(got, wanted.mean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("shape", [("n", 96, 64), ("n", 1, 96, 64), ("n", 96, 64, 1)], ids=str)
@pytest.mark.parametrize("stored", [False, True], ids=["in-memory", "from-a-file"])
def test_taken_off_again(tmp_path: Path, shape: tuple[int | str, ...], stored: bool) -> None:
    recipe, model = RECIPES["vggish"], network(shape)
    add_front_end(model, recipe)
    if stored:
        netferry.save(model, tmp_path / "n.onnx")
        model = netferry.load(tmp_path / "n.onnx")
    assert remove_front_end(model) == (recipe, "waveform")
    (info,) = model.inputs
    assert info.shape is not None
    assert info.shape[1:] == shape[1:]
    assert "front_end" not in {row.name for row in model.layers}
    netferry.save(model, tmp_path / "patches.onnx")
    x = np.random.default_rng(1).standard_normal((2, *(int(d) for d in shape[1:]))).astype(np.float32)
    got = Session(tmp_path / "patches.onnx", "cpu").run({info.name: x})["scores"]
    np.testing.assert_allclose(got, x.reshape(2, -1).mean(1), atol=1e-5)
    assert remove_front_end(model) == (recipe, "")  # it says that it reads patches, and by which recipe


def test_only_what_was_put_on_is_taken_off() -> None:
    assert remove_front_end(network(("n", 96, 64))) is None
    model = network(("samples",))
    record(model, "patches", RECIPES["vggish"])
    with pytest.raises(UsageError, match="none that can be taken off"):
        remove_front_end(model)


def test_a_front_end_needs_one_input() -> None:
    model = network(("n", 96, 64))
    model.graph.inputs.append(ir.Value(name="more", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT)))
    with pytest.raises(UsageError, match="one input, this has 2"):
        add_front_end(model, RECIPES["vggish"])


@pytest.mark.parametrize("shape", [("n", 64, 96), ("n", 3, 96, 64), (4, 96, 64), ("n", 10)], ids=str)
def test_networks_that_read_no_patches(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(UsageError):
        add_front_end(network(shape), RECIPES["vggish"])


@pytest.mark.parametrize("text", ["[", "3", '{"x": 3}', '{"x": {"name": "a", "hop": 0}}', '{"x": {"nome": "a"}}'])
def test_broken_metadata(text: str) -> None:
    with pytest.raises(MalformedFile):
        recipes_of(text)


def test_recipes_survive_json() -> None:
    for recipe in RECIPES.values():
        assert SoundRecipe.from_dict(recipe.as_dict()) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_the_schema_describes_it(name: str) -> None:
    import json

    import jsonschema

    from netferry.schemas import metadata

    schema = json.loads((Path(metadata.__file__).parent / "metadata.schema.json").read_text())
    part = {"$defs": schema["$defs"], **schema["properties"]["netferry.sound"]}
    model = network(("n", 96, 64))
    add_front_end(model, RECIPES[name])
    jsonschema.validate(json.loads(model.ir.metadata_props[SOUND_KEY]), part, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"x": {"name": "a", "hop": 0}}, part, cls=jsonschema.Draft202012Validator)
