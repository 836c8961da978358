"""Every layer that either generation of Keras exports is read, or is named here with the reason why not."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from netferry.converters.keras import read  # noqa: F401 -- registers the readers
from netferry.converters.keras.registry import registry
from netferry.converters.onnx.write import write
from netferry.schemas.layers import Role
from tests.converters.keras.oracle import Case, Keras

NOT_LAYERS = {"AbstractRNNCell", "InputSpec", "Layer", "Wrapper"}
"""what layers are derived from"""
CELLS = {"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"}
"""read inside RNN, which alone can call them (test_recurrent.py)"""
CODE = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}
"""hold code of a user's or another framework's program: placeholders"""
ELSEWHERE = {"DenseFeatures"}
"""calls TensorFlow's feature columns, whose settings are classes and functions of TensorFlow: a placeholder"""


@pytest.mark.parametrize("generation", [2, 3])
def test_every_public_class(keras_of: Callable[[int], Keras], generation: int) -> None:
    names = set(keras_of(generation).make(classes=True)["classes"])
    assert len(names) > 100
    unread = {n for n in names if n not in registry}
    assert unread == names & (NOT_LAYERS | CELLS | CODE | ELSEWHERE)


PICTURES = [
    "RandomFlip()", "RandomRotation(.1)", "RandomZoom(.2)", "RandomTranslation(.1, .2)", "RandomContrast(.1)",
    "RandomBrightness(.1)", "RandomCrop(9, 8)",
]  # fmt: skip
PICTURES_2 = ["RandomHeight(.2)", "RandomWidth(.2)"]
PICTURES_3 = [
    "AugMix()", "CutMix()", "MixUp()", "RandAugment()", "RandomColorDegeneration(.2)",
    "RandomColorJitter(brightness_factor=.1)", "RandomElasticTransform()", "RandomErasing()", "RandomGaussianBlur()",
    "RandomGrayscale()", "RandomHue(.2)", "RandomInvert()", "RandomPerspective()", "RandomPosterization(4)",
    "RandomSaturation(.4)", "RandomSharpness(.2)", "RandomShear(.1)", "Solarization()",
    "Pipeline([L.Rescaling(.5), L.RandomFlip(), L.CenterCrop(5, 4)])",
]  # fmt: skip
NOISE = [
    "Dropout(.5)", "AlphaDropout(.2)", "GaussianDropout(.2)", "GaussianNoise(.2)", "SpatialDropout2D(.2)",
    "ActivityRegularization(.1)",
]  # fmt: skip


@pytest.mark.parametrize("layer", [*PICTURES, *PICTURES_2, *NOISE])
def test_training_only_in_keras2(case2: Case, layer: str) -> None:
    case2(f"L.{layer}", (9, 8, 3), counts=False)


@pytest.mark.parametrize("layer", [*PICTURES, *PICTURES_3, *NOISE])
def test_training_only_in_keras3(case3: Case, layer: str) -> None:
    """Keras itself cannot write some of them into an .h5 file, and Equalization into no model at all."""
    case3(f"L.{layer}", (9, 8, 3), counts=False, kinds=("keras",))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("(lambda e: e(L.Dense(4)(e(x)), reverse=True))(L.ReversibleEmbedding(9, 4))", id="tied"),
        pytest.param(
            "(lambda e: e(L.Dense(4)(e(x)), reverse=True))(L.ReversibleEmbedding(9, 4, tie_weights=False, logit_soft_cap=2.))",
            id="untied-soft-cap",
        ),
        pytest.param("L.LSTM(3)(L.ReversibleEmbedding(9, 4, mask_zero=True)(x))", id="mask"),
    ],
)
def test_reversible_embedding(case3: Case, model: str) -> None:
    case3(model, (5,), dtypes=("int32",))


def test_adapted_normalization_counts_its_state(case: Case) -> None:
    """Mean, variance and how many values it has seen; the last is not written, as nothing reads it."""
    made = case("(lambda l: (l.adapt(np.arange(12.).reshape(4, 3)), l(x))[1])(L.Normalization())", (3,))
    assert len(made.model.parameters(Role.STATE)) == 3
    write(made.model, case.folder / "written.onnx", producer_version="test")
    written = onnx.load(case.folder / "written.onnx").graph
    assert {i.name for i in written.initializer} & set(made.model.parameters(Role.STATE)) == {
        "normalization.mean", "normalization.variance"
    }  # fmt: skip
