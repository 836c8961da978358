"""keras.applications, every family: values, counts of learnables and nodes, layout. The judge is the real Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from netferry.converters.keras.read import read
from netferry.converters.onnx.write import write
from netferry.converters.options import ReadOptions
from netferry.converters.passes.optimize import optimize
from netferry.schemas.layers import Role
from netferry.schemas.model import Model
from tests.converters.keras.oracle import Keras

NODES = {
    "InputLayer": 0, "Sequential": 0, "StochasticDepth": 0, "Conv2D": 1, "DepthwiseConv2D": 1, "SeparableConv2D": 2, "Dense": 1,
    "BatchNormalization": 1, "LayerNormalization": 9, "LayerScale": 1, "Normalization": 4, "Rescaling": 2, "Add": 1,
    "Multiply": 1, "Concatenate": 1, "CustomScaleLayer": 2, "Lambda": 2, "ZeroPadding2D": 1, "Cropping2D": 1,
    "MaxPooling2D": 1, "AveragePooling2D": 1, "GlobalAveragePooling2D": 2, "GlobalMaxPooling2D": 2, "Activation": 0, "ReLU": 1, "Dropout": 1,
    "Flatten": 1, "Reshape": 1,
}  # fmt: skip
"""most nodes that a layer of a class may become; a LayerNormalization over channels that lie in front is taken apart into
nine, where ONNX's own node would need a Transpose before and behind"""
ACTIVATIONS = {
    "linear": 0, "relu": 1, "relu6": 1, "softmax": 1, "sigmoid": 1, "gelu": 1, "swish": 2, "silu": 2, "hard_swish": 1,
    "hard_silu": 1, "hard_sigmoid": 1,
}  # fmt: skip
CLEAN = {"MobileNetV2": 100, "ResNet50": 122, "DenseNet201": 608}
"""nodes of a clean channels-first graph without the softmax, batch norms folded (measured with other exporters)"""
RAW = {"TFOpLambda": 1, "ops:Add": 1, "ops:Multiply": 1}


def clean_nodes(layers: dict[str, int]) -> int:
    """Number of nodes that a graph without anything left over has, the one Transpose of the picture included."""
    known = {**NODES, **RAW, **{f"activation {k}": v for k, v in ACTIVATIONS.items()}, "merge": 1}
    return 1 + sum(known[name] * count for name, count in layers.items())


def counted(model: Model) -> dict[str, int]:
    return {
        role: sum(int(np.prod(v.shape)) for v in model.parameters(role).values())  # pyright: ignore
        for role in (Role.LEARNABLE, Role.STATE)
    }


class Application:
    """Makes one network, converts it and compares."""

    def __init__(self, keras_of: Callable[[int], Keras], folder: Path) -> None:
        self.keras_of, self.folder = keras_of, folder

    def __call__(
        self, generation: int, name: str, size: tuple[int | None, ...], scale: float, **arguments: Any
    ) -> None:
        given = {"weights": None, "input_shape": (*size, 3), "classifier_activation": None, **arguments}
        call = ", ".join(f"{k}={v!r}" for k, v in given.items())
        facts = self.keras_of(generation).make(
            model=f"keras.applications.{name}({call})", shapes=[(*size, 3)], dtypes=["float32"], seed=3, length=96,
            folder=str(self.folder), scale=scale, low=0, high=8, zeros=False, calibrate=True, one_file=True,
        )  # fmt: skip
        arrays = dict(np.load(self.folder / "case.npz"))
        assert np.ptp(arrays["3:out0"], axis=0).max() > 1e-3 * np.abs(arrays["3:out0"]).max(), "the picture must matter"
        model = read(self.folder / "model.h5", ReadOptions())
        assert not model.placeholders()
        assert counted(model) == {Role.LEARNABLE: facts["learnable"], Role.STATE: facts["state"]}
        operators = Counter(n.op_type for n in model.graph)
        assert operators["Transpose"] <= 1
        assert operators["Identity"] == operators["Cast"] == operators["Shape"] == 0
        assert operators.total() <= clean_nodes(facts["layers"]), operators
        apart = self.compare(model, arrays, nchw=False)
        print(f"{name} of Keras {generation}: {apart:.1e} apart; Keras moves {facts['noise']:.1e} by a rounding")
        turned = read(self.folder / "model.h5", ReadOptions(inputs_as_nchw=("*",)))
        assert Counter(n.op_type for n in turned.graph) == operators - Counter(["Transpose"])
        optimize(turned, "full")
        left = Counter(n.op_type for n in turned.graph)
        assert left["Identity"] == left["Dropout"] == left["Transpose"] == 0
        behind = [n.inputs[0].producer() for n in turned.graph if n.op_type == "BatchNormalization" and n.inputs[0]]
        assert not [n.name for n in behind if n is not None and n.op_type == "Conv" and len(n.outputs[0].uses()) == 1]
        if name in CLEAN:
            assert left.total() <= CLEAN[name], left
        self.compare(turned, arrays, nchw=True)

    def compare(self, model: Model, arrays: dict[str, np.ndarray], *, nchw: bool) -> float:
        """Return the largest difference, relative to the largest value; refuse more than 1e-4."""
        worst = 0.0
        file = self.folder / f"out{int(nchw)}.onnx"
        write(model, file, producer_version="test")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        runner = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for batch in (1, 3):
            given, want = arrays[f"{batch}:in0"], arrays[f"{batch}:out0"]
            x = given.transpose(0, 3, 1, 2) if nchw else given
            made = np.asarray(runner.run(None, {runner.get_inputs()[0].name: np.ascontiguousarray(x)})[0])
            assert made.shape == want.shape
            worst = max(worst, float(np.abs(made - want).max() / np.abs(want).max()))
        file.unlink()
        assert worst <= 1e-4, f"{worst:.2e} apart"
        return worst


@pytest.fixture
def application(keras_of: Callable[[int], Keras], tmp_path: Path) -> Application:
    return Application(keras_of, tmp_path)


def rows(*names: str, size: tuple[int, int] = (97, 75), scale: float = 1.0, slow: bool = True) -> list[Any]:
    marks = [pytest.mark.slow] if slow else []
    return [pytest.param(name, size, scale, id=name, marks=marks) for name in names]


BOTH = [
    *rows("MobileNet", "MobileNetV2", slow=False),
    *rows("MobileNetV3Small", scale=128, slow=False),
    *rows("MobileNetV3Large", scale=128),
    *rows("ResNet50", slow=False),
    *rows("ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"),
    *rows("DenseNet121", "DenseNet169", "DenseNet201"),
    *rows("InceptionV3", "InceptionResNetV2", "Xception"),
    *rows("NASNetMobile", "NASNetLarge"),
    *rows(*(f"EfficientNetB{i}" for i in range(8)), scale=128),
    *rows(*(f"EfficientNetV2{i}" for i in ("B0", "B1", "B2", "B3", "S", "M", "L")), scale=128),
    *rows(*(f"ConvNeXt{i}" for i in ("Tiny", "Small", "Base", "Large", "XLarge")), scale=128),
    *rows("VGG16", "VGG19", size=(32, 47)),
]
KERAS2_ONLY = [
    *rows(*(f"RegNet{i}" for i in ("X002", "Y002", "X016", "Y016", "X120", "Y064")), scale=128),
    *rows(*(f"ResNetRS{i}" for i in (50, 101, 200)), scale=128),
]


@pytest.mark.parametrize("generation", [pytest.param(2, id="keras2"), pytest.param(3, id="keras3")])
@pytest.mark.parametrize(("name", "size", "scale"), BOTH)
def test_family(application: Application, generation: int, name: str, size: tuple[int, int], scale: float) -> None:
    application(generation, name, size, scale)


@pytest.mark.parametrize(
    ("name", "size", "scale"),
    [*rows("ResNet50", "NASNetMobile", size=(224, 224)), *rows("InceptionV3", size=(299, 299)),
     *rows("EfficientNetB0", size=(224, 224), scale=128)],
)  # fmt: skip
def test_size_of_its_own(application: Application, name: str, size: tuple[int, int], scale: float) -> None:
    application(3, name, size, scale)


@pytest.mark.parametrize(("name", "size", "scale"), KERAS2_ONLY)
def test_family_of_keras2(application: Application, name: str, size: tuple[int, int], scale: float) -> None:
    application(2, name, size, scale)


@pytest.mark.parametrize("generation", [pytest.param(2, id="keras2"), pytest.param(3, id="keras3")])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("MobileNetV2", {"alpha": 0.35, "include_top": False, "pooling": "max"}, id="no-top-max"),
        pytest.param("MobileNet", {"alpha": 0.25, "include_top": False, "pooling": "avg"}, id="no-top-avg"),
        pytest.param("MobileNetV3Small", {"minimalistic": True}, id="minimalistic"),
    ],
)
def test_any_size(application: Application, generation: int, name: str, arguments: dict[str, Any]) -> None:
    application(generation, name, (None, None), 1.0, **arguments)
