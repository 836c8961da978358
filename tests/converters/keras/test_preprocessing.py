"""Preprocessing layers against the real Keras: pictures resized and cropped, categories, vocabularies, texts."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE = (9, 8, 3)
WORDS = ("apple", "pear", "fig", "nut", "Apple")
TEXTS = (
    "The cat sat, on the mat!",
    "a  dog's   day: it's (really) BIG",
    "the the the",
    "unknown words... only",
    "x",
    "MAT cat? dog_day",
)
VOCABULARY = "['the', 'cat', 'sat', 'mat', 'dogs', 'big', 'a', 'the cat', 'dogs day']"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("L.Resizing(13, 11)", id="bilinear"),
        pytest.param("L.Resizing(5, 3)", id="bilinear-smaller"),
        pytest.param("L.Resizing(18, 16, interpolation='nearest')", id="nearest-double"),
        pytest.param("L.Resizing(13, 5, interpolation='nearest')", id="nearest"),
        pytest.param("L.Resizing(13, 5, interpolation='bicubic')", id="bicubic"),
        pytest.param("L.Resizing(12, 12, crop_to_aspect_ratio=True)", id="crop-to-aspect-ratio"),
        pytest.param("L.Resizing(4, 7, crop_to_aspect_ratio=True, interpolation='nearest')", id="crop-nearest"),
        pytest.param("L.Resizing(9, 8)", id="same-size"),
        pytest.param("L.CenterCrop(5, 4)", id="center-crop"),
        pytest.param("L.CenterCrop(6, 8)", id="center-crop-odd"),
        pytest.param("L.CenterCrop(12, 4)", id="center-crop-larger"),
        pytest.param("L.Rescaling(1 / 127.5, -1)", id="rescaling"),
        pytest.param("L.Normalization(mean=[.1, .2, .3], variance=[1., 2., 3.])", id="normalization"),
        pytest.param("L.RandomCrop(5, 7)", id="random-crop-only-in-training"),
        pytest.param("L.RandomFlip()(L.RandomRotation(.1)(L.RandomZoom(.2)(L.RandomContrast(.1)(x))))", id="augmentation"),
    ],
)
def test_pictures(case: Case, model: str) -> None:
    if case.keras.generation == 3 and "RandomCrop" in model:
        pytest.skip("Keras 3's symbolic shape of RandomCrop is not what it computes at inference")
    case(model, PICTURE, counts="Random" not in model)


@pytest.mark.parametrize("method", ["area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"])
@pytest.mark.parametrize("size", ["13, 5", "4, 20", "8, 8"])
def test_methods_of_keras2(case2: Case, method: str, size: str) -> None:
    case2(f"L.Resizing({size}, interpolation='{method}')", PICTURE)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("L.Resizing(5, 3, antialias=True)", id="antialias"),
        pytest.param("L.Resizing(4, 11, interpolation='bicubic', antialias=True)", id="bicubic-antialias"),
        pytest.param("L.Resizing(4, 11, interpolation='lanczos5', antialias=True)", id="lanczos-antialias"),
        pytest.param("L.Resizing(12, 12, pad_to_aspect_ratio=True, fill_value=.5)", id="pad-to-aspect-ratio"),
        pytest.param("L.Pipeline([L.RandomFlip(), L.Rescaling(.5)])", id="pipeline"),
        pytest.param("L.RandomBrightness(.2)(L.RandomErasing()(L.RandomShear(.2, .2)(L.RandomInvert()(x))))", id="augmentation"),
        pytest.param("L.MixUp()(L.CutMix()(L.AugMix()(L.RandAugment()(x))))", id="mixing"),
    ],
)
def test_pictures_of_keras3(case3: Case, model: str) -> None:
    case3(model, PICTURE, counts=False)


def test_whole_pictures_keep_their_type(case3: Case) -> None:
    case3("L.Resizing(13, 5, data_format='channels_last')", PICTURE, dtypes=("uint8",), high=255)


def test_dynamic_pictures(case: Case) -> None:
    case("L.Resizing(13, 11)", (None, None, 3))


@pytest.mark.parametrize(
    ("model", "shape", "dtype"),
    [
        pytest.param("L.CategoryEncoding(8, output_mode='one_hot')", (1,), "int32", id="one-hot"),
        pytest.param("L.CategoryEncoding(8, output_mode='multi_hot')", (5,), "int32", id="multi-hot"),
        pytest.param("L.CategoryEncoding(8, output_mode='count')", (5,), "int64", id="count"),
        pytest.param("L.Discretization([-1., 0., .5])", (4,), "float32", id="discretization"),
        pytest.param("L.Discretization([-1., 0., .5], output_mode='one_hot')", (1,), "float32", id="discretization-one-hot"),
        pytest.param("L.Discretization([-1., 0., .5], output_mode='count')", (4,), "float32", id="discretization-count"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1])", (4,), "int64", id="integer-lookup"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1], mask_token=0)", (4,), "int64", id="integer-lookup-mask"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1], num_oov_indices=3)", (4,), "int64", id="integer-lookup-oov3"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1], output_mode='multi_hot', mask_token=0)", (4,), "int64", id="integer-lookup-multi-hot"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1], output_mode='count', pad_to_max_tokens=True, max_tokens=9)", (4,), "int64", id="integer-lookup-count-padded"),
        pytest.param("L.IntegerLookup(vocabulary=[3, 5, 1], invert=True)", (4,), "int64", id="integer-lookup-invert"),
        pytest.param("L.StringLookup(vocabulary=['fig', 'pear'])", (4,), "string", id="string-lookup"),
        pytest.param("L.StringLookup(vocabulary=['fig', 'pear'], mask_token='nut')", (4,), "string", id="string-lookup-mask"),
        pytest.param("L.StringLookup(vocabulary=['fig', 'pear'], output_mode='one_hot')", (1,), "string", id="string-lookup-one-hot"),
        pytest.param("L.StringLookup(vocabulary=['fig', 'pear'], output_mode='tf_idf', idf_weights=[.5, 2.])", (4,), "string", id="string-lookup-tf-idf"),
        pytest.param("L.StringLookup(vocabulary=['fig', 'pear'], invert=True)(L.StringLookup(vocabulary=['fig', 'pear'])(x))", (4,), "string", id="string-lookup-there-and-back"),
        pytest.param("L.Embedding(4, 3)(L.StringLookup(vocabulary=['fig', 'pear'])(x))", (4,), "string", id="string-lookup-embedding"),
    ],
)
def test_categories(case: Case, model: str, shape: tuple[int, ...], dtype: str) -> None:
    case(model, shape, dtypes=(dtype,), words=WORDS)


@pytest.mark.parametrize(
    ("layer", "data", "shape", "dtype"),
    [
        pytest.param("L.StringLookup()", "[['fig'], ['pear'], ['fig']]", (4,), "string", id="string-lookup"),
        pytest.param("L.StringLookup(output_mode='tf_idf')", "[['fig'], ['pear'], ['fig']]", (4,), "string", id="string-lookup-tf-idf"),
        pytest.param("L.IntegerLookup()", "[[3], [5], [3]]", (4,), "int64", id="integer-lookup"),
        pytest.param("L.TextVectorization()", "[['the cat sat'], ['on the mat'], ['a dog']]", (1,), "string", id="text"),
        pytest.param("L.TextVectorization(output_mode='tf_idf', ngrams=2)", "[['the cat sat'], ['on the mat'], ['a dog']]", (1,), "string", id="text-tf-idf"),
        pytest.param("L.Discretization(num_bins=4)", "np.linspace(-2, 2, 37).reshape(-1, 1)", (4,), "float32", id="discretization"),
    ],
)
def test_adapted(case: Case, layer: str, data: str, shape: tuple[int, ...], dtype: str) -> None:
    """What adapt() found lies in the archive's assets and weights."""
    model = f"(lambda l: (l.adapt(np.array({data})), l(x))[1])({layer})"
    case(model, shape, dtypes=(dtype,), words=TEXTS if "Text" in layer else WORDS, kinds=("keras",), counts=False)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("", id="default"),
        pytest.param("standardize=None", id="no-standardize"),
        pytest.param("standardize='lower'", id="lower"),
        pytest.param("standardize='strip_punctuation'", id="strip-punctuation"),
        pytest.param("output_sequence_length=4", id="length-4"),
        pytest.param("output_sequence_length=12", id="length-12"),
        pytest.param("ngrams=2", id="ngrams"),
        pytest.param("ngrams=(2,)", id="pairs"),
        pytest.param("ngrams=(1, 3), output_sequence_length=6", id="ngrams-1-3"),
        pytest.param("output_mode='multi_hot'", id="multi-hot"),
        pytest.param("output_mode='count', ngrams=2", id="count-ngrams"),
        pytest.param("output_mode='tf_idf', idf_weights=[.1, .2, .3, .4, .5, .6, .7, .8, .9]", id="tf-idf"),
        pytest.param("output_mode='multi_hot', max_tokens=20, pad_to_max_tokens=True", id="padded"),
    ],
)
def test_text_vectorization(case: Case, settings: str) -> None:
    case(f"L.TextVectorization(vocabulary={VOCABULARY}, {settings})", (1,), dtypes=("string",), words=TEXTS)


def test_text_classifier(case: Case) -> None:
    """Texts to classes in one graph: words, embedding, mean, Dense."""
    case(
        f"L.Dense(3)(L.GlobalAveragePooling1D()(L.Embedding(12, 4)(L.TextVectorization(vocabulary={VOCABULARY}, output_sequence_length=5)(x))))",
        (1,), dtypes=("string",), words=TEXTS,
    )  # fmt: skip
