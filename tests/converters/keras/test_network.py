"""Networks of every form against the real Keras: nested, shared, several inputs and outputs, masks, wrappers."""

from __future__ import annotations

import pytest

from netferry.schemas.layers import Role
from tests.converters.keras.oracle import Case

INNER = "keras.Sequential([keras.Input((6,)), L.Dense(4, activation='relu'), L.BatchNormalization(), L.Dense(3)])"
FUNCTIONAL = "(lambda i: keras.Model(i, L.Dense(6, activation='tanh')(i)))(keras.Input((6,)))"
PICTURES = (
    "keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.GlobalAveragePooling2D()])"
)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        pytest.param(f"{INNER}(x)", ((6,),), id="sequential-in-functional"),
        pytest.param(f"keras.Sequential([keras.Input((6,)), {INNER}, L.Dense(2)])", ((6,),), id="sequential-in-sequential"),
        pytest.param(f"keras.Sequential([keras.Input((6,)), keras.Sequential([keras.Input((6,)), {INNER}]), L.Dense(2)])",
                     ((6,),), id="three-deep"),
        pytest.param(f"(lambda m: L.Concatenate()([m(xs[0]), m(xs[1])]))({INNER})", ((6,), (6,)), id="shared-model"),
        pytest.param("(lambda d: L.Add()([d(xs[0]), d(xs[1])]))(L.Dense(4))", ((6,), (6,)), id="shared-layer"),
        pytest.param("(lambda d: d(d(d(x))))(L.Dense(6, activation='tanh'))", ((6,),), id="layer-on-itself"),
        pytest.param("(lambda m: m(m(x)))(keras.Sequential([keras.Input((6,)), L.Dense(6), L.ReLU()]))", ((6,),), id="model-on-itself"),
        pytest.param("[L.Dense(2)(x), L.Dense(3)(x), L.Dense(4)(xs[1])]", ((6,), (5,)), id="several-outputs"),
        pytest.param("(lambda d: [d, d])(L.Dense(2)(x))", ((6,),), id="one-output-twice"),
        pytest.param("[x, L.Dense(2)(x)]", ((6,),), id="input-as-output"),
        pytest.param("L.Add()((lambda i: keras.Model(i, [L.Dense(2)(i), L.Dense(2)(i)]))(keras.Input((6,)))(x))", ((6,),),
                     id="both-outputs-of-nested"),
        pytest.param("(lambda a, c: keras.Model([a, c], L.Subtract()([L.Dense(2)(a), L.Dense(2)(c)])))(keras.Input((6,)), keras.Input((5,)))([xs[0], xs[1]])",
                     ((6,), (5,)), id="two-inputs-of-nested"),
        pytest.param("(lambda a, b: keras.Model({'a': a, 'b': b}, L.Concatenate()([L.Dense(2)(a), b])))(keras.Input((6,), name='a'),"
                     " keras.Input((5,), name='b'))({'b': xs[1], 'a': xs[0]})", ((6,), (5,)), id="nested-by-names"),
        pytest.param("(lambda m: (m(np.zeros((2, 6), 'float32')), m)[1])(keras.Sequential([L.Dense(3), keras.Sequential([L.Dense(4)])]))",
                     ((6,),), id="built-by-data"),
        pytest.param(f"L.TimeDistributed({INNER})(x)", ((4, 6),), id="time-distributed-model"),
        pytest.param(f"{PICTURES}(x)", ((6, 6, 3),), id="nested-convs"),
        pytest.param(f"(lambda m: L.Subtract()([m(xs[0]), m(xs[1])]))({PICTURES})", ((6, 6, 3), (6, 6, 3)), id="siamese"),
        pytest.param("L.TimeDistributed(L.Conv2D(4, 3))(x)", ((3, 6, 6, 2),), id="time-distributed-conv"),
        pytest.param("L.TimeDistributed(L.Conv2D(4, 3))(x)", ((None, 6, 6, 2),), id="time-distributed-conv-dynamic"),
        pytest.param("L.TimeDistributed(L.Flatten())(L.TimeDistributed(L.MaxPooling2D(2))(L.TimeDistributed(L.Conv2D(4, 3))(x)))",
                     ((3, 6, 6, 2),), id="time-distributed-chain"),
        pytest.param("L.TimeDistributed(L.Dense(4))(x)", ((3, 6),), id="time-distributed-dense"),
        pytest.param("L.TimeDistributed(L.Dense(4))(x)", ((None, 6),), id="time-distributed-dense-dynamic"),
        pytest.param("L.TimeDistributed(L.BatchNormalization())(x)", ((3, 6),), id="time-distributed-bn"),
        pytest.param("L.TimeDistributed(L.GlobalAveragePooling2D())(x)", ((None, 5, 4, 2),), id="time-distributed-pool"),
        pytest.param(f"(lambda m: (lambda a, b: [a, L.Dense(3)(b)])(m(xs[0]), m(xs[1])))({FUNCTIONAL})", ((6,), (6,)),
                     id="first-call-of-nested-as-output"),
        pytest.param(f"(lambda m: (lambda a, b: [L.Dense(3)(b), L.Dense(2)(a), a])(m(xs[0]), m(xs[1])))({FUNCTIONAL})",
                     ((6,), (6,)), id="first-call-of-nested-as-output-and-argument"),
        pytest.param(f"(lambda m: (lambda a: [m(a), a])(m(x)))({FUNCTIONAL})", ((6,),), id="nested-on-itself-and-both"),
        pytest.param("(lambda p: [p[1], L.Add()([p[0], L.ReLU()(p[0])])])((lambda i: keras.Model(i, [L.Dense(2)(i),"
                     " L.Dense(2)(i)]))(keras.Input((6,)))(x))", ((6,),), id="one-output-of-nested-read-one-given"),
        pytest.param("L.GaussianNoise(0.1)(L.Dropout(0.2)(L.SpatialDropout1D(0.3)(L.Dense(3)(x))))", ((4, 6),), id="training-only"),
        pytest.param("L.GaussianDropout(0.1)(L.AlphaDropout(0.2)(L.ActivityRegularization(0.3)(L.Dense(3)(x))))", ((4, 6),), id="training-only-2"),
    ],
)  # fmt: skip
def test_network(case: Case, model: str, shapes: tuple[tuple[int | None, ...], ...]) -> None:
    case(model, *shapes)


def test_frozen_layers_inside_nested_models_bind_right(case: Case) -> None:
    """Old files list trained weights first: a frozen layer inside a nested model moves to the end."""
    code = (
        "(lambda f: f(keras.Sequential([keras.Input((6,)), L.Dense(4, trainable=False), L.BatchNormalization(),"
        " L.Dense(4), L.BatchNormalization(trainable=False), L.Dense(4)]))) (lambda m: m(x))"
    )
    case(code, (6,), counts=False)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("(lambda d: L.Add()([keras.Sequential([keras.Input((6,)), d])(x), keras.Sequential([keras.Input((6,)),"
                     " L.ReLU(), d])(x), d(x)]))(L.Dense(4))", id="layer-in-two-models-and-beside"),
        pytest.param("(lambda z: [keras.Model(x, z)(L.ReLU()(x)), L.Dense(3)(z)])(L.Dense(4)(L.Dense(5)(x)))",
                     id="layers-and-a-model-of-them"),
        pytest.param("(lambda m: L.Add()([keras.Sequential([keras.Input((6,)), m])(x), keras.Sequential([keras.Input((6,)),"
                     " L.ReLU(), m])(x)]))(keras.Sequential([keras.Input((6,)), L.Dense(4), L.BatchNormalization()]))",
                     id="model-in-two-models"),
    ],
)  # fmt: skip
def test_a_layer_in_several_models_is_written_once(case: Case, model: str) -> None:
    """.keras files hold such a layer's weights where Keras met it first; Keras itself cannot load all of them."""
    case(model, (6,), counts=False)


def test_a_dense_alone_and_over_steps_is_written_once(case: Case) -> None:
    case("(lambda d: [L.TimeDistributed(d)(xs[0]), d(xs[1])])(L.Dense(4))", (5, 6), (6,), counts=False)


def test_shared_weights_stay_tied(case: Case) -> None:
    result = case("(lambda d: L.Add()([d(xs[0]), d(xs[1])]))(L.Dense(4))", (6,), (6,))
    assert sorted(result.model.parameters(Role.LEARNABLE)) == ["dense.bias", "dense.weight"]


@pytest.mark.parametrize(
    ("model", "shape", "dtype"),
    [
        pytest.param("L.Embedding(8, 5)", (7,), "int32", id="embedding"),
        pytest.param("L.Embedding(8, 5)", (None,), "int64", id="embedding-dynamic"),
        pytest.param("L.Embedding(8, 5, mask_zero=True)", (7,), "int32", id="embedding-mask"),
        pytest.param("L.Dense(2)(L.Flatten()(L.Embedding(8, 5)(x)))", (7,), "int32", id="embedding-flatten"),
        pytest.param("L.Masking(0.0)", (5, 3), "float32", id="masking"),
        pytest.param("L.GlobalAveragePooling1D()(L.Masking(0.0)(x))", (5, 3), "float32", id="masking-mean"),
        pytest.param("L.GlobalAveragePooling1D()(L.Dense(4)(L.Masking(0.0)(x)))", (5, 3), "float32", id="masking-dense-mean"),
        pytest.param("L.GlobalAveragePooling1D()(L.Concatenate()([L.Masking(0.0)(x), L.Masking(0.0)(x)]))", (5, 3), "float32",
                     id="masking-concat-mean"),
    ],
)  # fmt: skip
def test_masks(case: Case, model: str, shape: tuple[int | None, ...], dtype: str) -> None:
    case(model, shape, dtypes=(dtype,), zeros=True, low=1)


@pytest.mark.parametrize("kind", ["Add", "Multiply", "Maximum", "Average", "Concatenate"])
@pytest.mark.parametrize(
    "second",
    [
        pytest.param("L.Masking(0.0)(L.Permute((2, 1))(L.Permute((2, 1))(xs[1])))", id="both-masked"),
        pytest.param("xs[1]", id="one-masked"),
    ],
)
def test_masks_of_merged_tensors(case: Case, kind: str, second: str) -> None:
    """The two generations combine masks differently; the mean over the steps that count shows how."""
    code = f"L.GlobalAveragePooling1D()(L.{kind}()([L.Masking(0.0)(xs[0]), {second}]))"
    case(code, (5, 3), (5, 3), zeros=True)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.BatchNormalization(axis=1)(L.Reshape((4, 5, 6))(x))", (4, 5, 6), id="bn"),
        pytest.param("L.MaxPooling2D(2, data_format='channels_first')(x)", (4, 6, 6), id="pool"),
        pytest.param("L.GlobalAveragePooling2D(data_format='channels_first')(x)", (4, 6, 6), id="global"),
        pytest.param("L.ZeroPadding2D(1, data_format='channels_first')(x)", (4, 6, 6), id="pad"),
        pytest.param("L.Cropping2D(1, data_format='channels_first')(x)", (4, 6, 6), id="crop"),
    ],
)
def test_channels_first(case: Case, model: str, shape: tuple[int | None, ...]) -> None:
    try:
        assert case(model, shape).operators.count("Transpose") == 0
    except pytest.fail.Exception as error:
        if "CPU" in str(error) or "NHWC" in str(error):
            pytest.skip("tensorflow on CPU cannot compute this channels-first")
        raise


def test_a_picture_net_has_one_transpose(case: Case) -> None:
    code = "L.Dense(3)(L.Flatten()(L.Concatenate()([L.Conv2D(4, 3)(y), L.MaxPooling2D(3, 1)(L.ReLU()(y))])))"
    result = case(f"(lambda y: {code})(L.Conv2D(3, 1)(L.Rescaling(2.0)(x)))", (6, 6, 3))
    assert result.operators.count("Transpose") == 1


def test_unused_weights_are_named(case: Case) -> None:
    code = "(lambda i: keras.Model(i, [L.Dense(2)(i), L.Dense(3)(i)]))(keras.Input((6,)))(x)[1]"
    result = case(code, (6,), counts=False)
    assert any("not used" in note.message for note in result.model.notes)
