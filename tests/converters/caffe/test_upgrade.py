"""Old nets read like new ones: the same net said in V0, V1 and V2, input fields, padding layers, phase rules."""

from __future__ import annotations

import pytest

from netferry.converters.caffe.prototxt import Message, parse
from netferry.converters.caffe.rules import included, state_of
from netferry.converters.caffe.upgrade import upgrade
from netferry.errors import MalformedFile
from netferry.schemas.model import Note


def plain(text: str) -> list[dict[str, object]]:
    notes: list[Note] = []
    return [m.as_dict() for m in upgrade(parse(text), notes)]


INPUT = {"name": "data", "type": "Input", "top": "data", "input_param": {"shape": {"dim": ["1", "3", "8", "8"]}}}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("input: 'data' input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8", id="input-dim"),
        pytest.param("input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } input: 'data'", id="input-shape-first"),
        pytest.param("input: 'data' input_shape { dim: [1, 3, 8, 8] }", id="list"),
    ],
)
def test_input_fields_become_input_layers(text: str) -> None:
    assert plain(text) == [INPUT]


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        pytest.param(
            "layers { name: 'c' type: CONVOLUTION bottom: 'a' top: 'b' blobs_lr: 1 blobs_lr: 2 param: 'w' "
            "convolution_param { num_output: 4 } }",
            {
                "name": "c", "type": "Convolution", "bottom": "a", "top": "b",
                "convolution_param": {"num_output": "4"},
                "param": [{"name": "w", "lr_mult": "1"}, {"lr_mult": "2"}],
            },
            id="v1-word",
        ),
        pytest.param("layers { name: 'c' type: 17 }", {"name": "c", "type": "Pooling"}, id="v1-number"),
        pytest.param("layers { name: 'c' type: 40 }", {"name": "c", "type": "PReLU"}, id="v1-fork-number"),
        pytest.param("layers { name: 'c' type: WARP }", {"name": "c", "type": "WARP"}, id="v1-unknown-stays"),
        pytest.param("layer { name: 'c' type: RELU }", {"name": "c", "type": "ReLU"}, id="v1-type-in-layer"),
        pytest.param(
            "layers { layer { name: 'c' type: 'conv' num_output: 4 biasterm: false pad: 1 kernelsize: 3 } "
            "bottom: 'a' top: 'b' }",
            {
                "name": "c", "type": "Convolution",
                "convolution_param": {"num_output": "4", "bias_term": "false", "pad": "1", "kernel_size": "3"},
                "bottom": "a", "top": "b",
            },
            id="v0-convolution",
        ),
        pytest.param(
            "layers { layer { name: 'd' type: 'data' batchsize: 2 scale: 0.5 cropsize: 7 } top: 'data' }",
            {
                "name": "d", "type": "Data", "data_param": {"batch_size": "2"},
                "transform_param": {"scale": "0.5", "crop_size": "7"}, "top": "data",
            },
            id="v0-data-transformation",
        ),
        pytest.param(
            "layer { name: 'd' type: 'Data' data_param { scale: 0.5 batch_size: 2 } }",
            {
                "name": "d", "type": "Data", "data_param": {"batch_size": "2"}, "transform_param": {"scale": "0.5"},
            },
            id="transformation-lifted",
        ),
    ],
)  # fmt: skip
def test_layers_are_upgraded(text: str, layer: dict[str, object]) -> None:
    assert plain(text) == [layer]


def test_a_v0_padding_layer_is_folded_into_the_next() -> None:
    layers = plain(
        "layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'a' top: 'padded' }"
        "layers { layer { name: 'c' type: 'conv' kernelsize: 5 } bottom: 'padded' top: 'b' }"
    )
    assert layers == [
        {
            "name": "c",
            "type": "Convolution",
            "convolution_param": {"kernel_size": "5", "pad": "2"},
            "top": "b",
            "bottom": "a",
        }
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("input: 'a' input_dim: 1", "need 4 input_dim", id="too-few-dims"),
        pytest.param("input: 'a' input_dim: 1 input_shape { }", "both", id="dims-and-shape"),
        pytest.param("layer: 3", "not a message", id="layer-is-a-number"),
        pytest.param(
            "layers { layer { name: 'p' type: 'padding' } bottom: 'a' top: 'b' } "
            "layers { layer { name: 'r' type: 'relu' } bottom: 'b' top: 'b' }",
            "may follow a padding",
            id="padding-before-relu",
        ),
        pytest.param("layers { layer { name: 'r' type: 'relu' warp: 3 } }", "no field 'warp'", id="v0-field"),
    ],
)
def test_impossible_nets_are_refused(text: str, reason: str) -> None:
    with pytest.raises(MalformedFile, match=reason):
        plain(text)


@pytest.mark.parametrize(
    ("rules", "level", "stages", "kept"),
    [
        pytest.param("", 0, (), True, id="no-rule"),
        pytest.param("include { phase: TEST }", 0, (), True, id="test"),
        pytest.param("include { phase: TRAIN }", 0, (), False, id="train"),
        pytest.param("include { phase: 1 }", 0, (), True, id="by-number"),
        pytest.param("exclude { phase: TEST }", 0, (), False, id="exclude"),
        pytest.param("include { phase: TRAIN } include { stage: 'a' }", 0, ("a",), True, id="any-include"),
        pytest.param("include { min_level: 2 }", 1, (), False, id="below-level"),
        pytest.param("include { max_level: 2 }", 2, (), True, id="at-level"),
        pytest.param("include { stage: 'a' stage: 'b' }", 0, ("a",), False, id="all-stages"),
        pytest.param("include { not_stage: 'a' }", 0, ("a",), False, id="not-stage"),
    ],
)
def test_rules(rules: str, level: int, stages: tuple[str, ...], kept: bool) -> None:
    layer = parse(f"layer {{ name: 'x' {rules} }}").messages("layer")[0]
    assert included(layer, state_of(Message(), level, stages)) is kept


def test_include_and_exclude_together_are_refused() -> None:
    layer = parse("layer { include { } exclude { } }").messages("layer")[0]
    with pytest.raises(MalformedFile, match="both"):
        included(layer, state_of(Message(), 0, ()))
