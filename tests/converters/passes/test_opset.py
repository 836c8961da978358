"""Raising and lowering: rows written by hand where the official tests have none, and what must survive."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser

from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedOpset, UsageError
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER
from netferry.schemas.model import Model, Source
from tests.converters.passes.opset_cases import as_model, carried, differs, outputs_of


def _proto(opset: int, text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


OLD = {
    "upsample7": (7, "(float[N,2,3,3] x) => (float[N,2,6,6] y) { y = Upsample<scales=[1.0,1.0,2.0,2.0]>(x) }"),
    "upsample9-linear": (
        9,
        "f (float[1,2,3,3] x) => (float[1,2,6,6] y) <float[4] s = {1.0,1.0,2.0,2.0}>"
        '{ y = Upsample<mode="linear">(x, s) }',
    ),
    "resize10": (
        10,
        "f (float[N,2,4,4] x) => (float[N,2,6,6] y) <float[4] s = {1.0,1.0,1.5,1.5}> { y = Resize(x, s) }",
    ),
    "slice9": (9, "f (float[N,4,5] x) => (float[N,2,3] y) { y = Slice<axes=[1,2],starts=[1,-4],ends=[3,-1]>(x) }"),
    "slice9-no-axes": (9, "f (float[4,5] x) => (float[2,5] y) { y = Slice<starts=[1,0],ends=[3,100]>(x) }"),
    "pad10": (10, "f (float[N,2,3] x) => (float[N,4,6] y) { y = Pad<pads=[0,1,2,0,1,1],value=1.5>(x) }"),
    "pad10-reflect": (10, 'f (float[N,2,3] x) => (float[N,2,5] y) { y = Pad<mode="reflect",pads=[0,0,1,0,0,1]>(x) }'),
    "clip10": (10, "f (float[N,4] x) => (float[N,4] y) { y = Clip<min=-0.5,max=0.25>(x) }"),
    "clip10-open": (10, "f (float[N,4] x) => (float[N,4] y) { y = Clip<max=0.25>(x) }"),
    "topk9": (9, "f (float[N,5] x) => (float[N,2] y, int64[N,2] i) { y, i = TopK<k=2,axis=1>(x) }"),
    "dropout9": (9, "f (float[N,4] x) => (float[N,4] y) { y = Dropout<ratio=0.7>(x) }"),
    "softmax-middle": (11, "f (float[N,3,4] x) => (float[N,3,4] y) { y = Softmax<axis=1>(x) }"),
    "softmax-default": (9, "f (float[N,3,2,2] x) => (float[N,3,2,2] y) { y = Softmax(x) }"),
    "softmax-ones": (11, "f (float[N,3,1,1] x) => (float[N,3,1,1] y) { y = LogSoftmax<axis=1>(x) }"),
    "softmax-zero": (11, "f (float[2,3] x) => (float[2,3] y) { y = Softmax<axis=0>(x) }"),
    "hardmax": (11, "f (float[N,3,4] x) => (float[N,3,4] y) { y = Hardmax<axis=1>(x) }"),
    "split11": (11, "f (float[N,6] x) => (float[N,2] a, float[N,4] b) { a, b = Split<axis=1,split=[2,4]>(x) }"),
    "split11-equal": (11, "f (float[N,6] x) => (float[N,3] a, float[N,3] b) { a, b = Split<axis=1>(x) }"),
    "squeeze": (9, "f (float[N,1,3] x) => (float[1,N,3] y) { t = Squeeze<axes=[1]>(x) y = Unsqueeze<axes=[0]>(t) }"),
    "reduce9": (
        9,
        "f (float[N,3,4] x) => (float[N] y) { t = ReduceMean<axes=[2]>(x) y = ReduceSum<axes=[1,2],keepdims=0>(t) }",
    ),
    "scatter9": (
        9,
        "f (float[3,3] x) => (float[3,3] y) <int64[1,3] i = {2,0,1}, float[1,3] u = {1.0,2.0,3.0}> "
        "{ y = Scatter(x, i, u) }",
    ),
    "batchnorm7": (
        7,
        "f (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2] s = {1.0,2.0}, float[2] b = {0.5,1.0}, "
        "float[2] m = {0.0,0.1}, float[2] v = {1.0,2.0}> { y = BatchNormalization<spatial=1>(x, s, b, m, v) }",
    ),
    "roialign10": (
        10,
        "f (float[1,1,6,6] x) => (float[1,1,2,2] y) <float[1,4] r = {0.0,0.0,3.0,3.0}, int64[1] i = {0}> "
        "{ y = RoiAlign<output_height=2,output_width=2>(x, r, i) }",
    ),
    "gridsample16": (
        16,
        'f (float[1,1,4,4] x, float[1,3,3,2] g) => (float[1,1,3,3] y) { y = GridSample<mode="bicubic">(x, g) }',
    ),
    "groupnorm18": (
        18,
        "f (float[N,6,3,2] x) => (float[N,6,3,2] y) <float[2] s = {1.5,2.0}, float[2] b = {0.5,1.0}> "
        "{ y = GroupNormalization<num_groups=2>(x, s, b) }",
    ),
    "mvn9": (9, "f (float[N,2,3,3] x) => (float[N,2,3,3] y) { y = MeanVarianceNormalization(x) }"),
    "lstm7": (
        7,
        "f (float[5,N,2] x, float[1,12,2] w, float[1,12,3] r) => (float[5,1,N,3] y) "
        "{ y = LSTM<hidden_size=3>(x, w, r) }",
    ),
}

NEW = {
    "split-dynamic": (21, "f (float[n,4] x) => (float[p,4] a, float[q,4] b) { a, b = Split<num_outputs=2>(x) }", 13),
    "softmax-middle": (21, "f (float[N,3,4] x) => (float[N,3,4] y) { y = Softmax<axis=1>(x) }", 11),
    "layernorm": (
        21,
        "f (float[N,T,4] x, float[4] s, float[4] b) => (float[N,T,4] y) { y = LayerNormalization<axis=-1>(x, s, b) }",
        11,
    ),
    "groupnorm": (
        21,
        "f (float[N,6,H,W] x, float[6] s, float[6] b) => (float[N,6,H,W] y) "
        "{ y = GroupNormalization<num_groups=3>(x, s, b) }",
        11,
    ),
    "groupnorm18": (
        18,
        "f (float[N,6,3,2] x) => (float[N,6,3,2] y) <float[2] s = {1.5,2.0}, float[2] b = {0.5,1.0}> "
        "{ y = GroupNormalization<num_groups=2>(x, s, b) }",
        11,
    ),
    "gelu": (21, 'f (float[N,4] x) => (float[N,4] y) { t = Gelu<approximate="tanh">(x) y = Gelu(t) }', 11),
    "mish": (21, "f (float[N,4] x) => (float[N,4] y) { t = Mish(x) y = HardSwish(t) }", 11),
    "trilu": (
        21,
        "f (float[N,4,5] x) => (float[N,4,5] y) <int64 k = {1}> { t = Trilu<upper=0>(x, k) y = Trilu(t) }",
        11,
    ),
    "shape-part": (21, "f (float[N,4,5] x) => (int64[1] y) { y = Shape<start=-2,end=-1>(x) }", 11),
    "reduce": (21, "f (float[N,3,4] x) => (float[N,1,1] y) <int64[2] a = {1,-1}> { y = ReduceL2(x, a) }", 11),
    "reduce-all": (21, "f (float[N,3,4] x) => (float y) { y = ReduceMax<keepdims=0>(x) }", 11),
    "pad-axes": (
        21,
        "f (float[N,3,4] x) => (float[N,3,7] y) <int64[2] p = {1,2}, float v = {0.5}, int64[1] a = {-1}> "
        "{ y = Pad(x, p, v, a) }",
        11,
    ),
    "pad-wrap": (
        21,
        'f (float[N,3,4] x) => (float[N,5,6] y) <int64[6] p = {0,1,2,0,1,0}> { y = Pad<mode="wrap">(x, p) }',
        11,
    ),
    "resize-axes": (
        21,
        "f (float[N,2,4,4] x) => (float[N,2,8,8] y) <float[2] s = {2.0,2.0}> "
        '{ y = Resize<axes=[2,3],mode="linear",antialias=1>(x, "", s) }'.replace('""', ""),
        11,
    ),
    "gru-layout": (
        21,
        "f (float[N,5,2] x, float[1,9,2] w, float[1,9,3] r) => (float[N,5,1,3] y, float[N,1,3] h) "
        "{ y, h = GRU<hidden_size=3,layout=1>(x, w, r) }",
        11,
    ),
    "clip-int": (
        21,
        "f (int64[N,4] x) => (int64[N,4] y) <int64 a = {0}, int64 b = {1}> { t = Max(x, a) y = Clip(t, a, b) }",
        11,
    ),
    "batchnorm-train": (
        21,
        "f (float[N,2,3] x, float[2] s, float[2] b, float[2] m, float[2] v) "
        "=> (float[N,2,3] y, float[2] p, float[2] q) "
        "{ y, p, q = BatchNormalization<training_mode=1>(x, s, b, m, v) }",
        11,
    ),
    "swish": (24, "f (float[N,4] x) => (float[N,4] y) { y = Swish<alpha=1.5>(x) }", 11),
    "rmsnorm": (23, "f (float[N,T,4] x, float[4] s) => (float[N,T,4] y) { y = RMSNormalization(x, s) }", 11),
    "pool-ceil": (
        22,
        "f (float[N,1,7,7] x) => (float[N,1,4,4] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x) }",
        11,
    ),
    "if": (
        21,
        "f (float[N,4] x, int64 c) => (float[N,4] y) { b = Cast<to=9>(c) y = If(b) <"
        "then_branch = t () => (float[N,4] u) { u = Gelu(x) }, else_branch = e () => (float[N,4] v) { v = Mish(x) }> }",
        11,
    ),
}


@pytest.mark.parametrize("target", [11, 13, 18, 21, 26])
@pytest.mark.parametrize("name", OLD)
def test_raised_model_computes_the_same(name: str, target: int) -> None:
    opset, text = OLD[name]
    proto = _proto(opset, text if text.startswith("f ") else f"f {text}")
    if target <= opset:
        pytest.skip("not a rise")
    out = carried(proto, target)
    onnx.checker.check_model(out, full_check=True)
    assert differs(outputs_of(out), outputs_of(proto), 1e-5, 1e-6) is None


@pytest.mark.parametrize("name", NEW)
def test_lowered_model_computes_the_same(name: str) -> None:
    opset, text, least = NEW[name]
    proto = _proto(opset, text)
    want = outputs_of(proto)
    for target in range(least, opset):
        out = carried(proto, target)
        onnx.checker.check_model(out, full_check=True)
        assert out.opset_import[0].version == target
        assert differs(outputs_of(out), want, 1e-5, 1e-6) is None, target


def _labelled() -> Model:
    model = as_model(
        _proto(
            21,
            "f (float[N,4] x) => (float[N,4] y) <float[4] s = {1.0,1.0,1.0,1.0}> "
            "{ h = Relu(x) g = Gelu(h) y = LayerNormalization(g, s) }",
        )
    )
    model.graph.metadata_props["graph"] = "kept"
    model.ir.metadata_props["model"] = "kept"
    for node in model.graph:
        node.name = f"my_{node.op_type}"
        node.metadata_props[LAYER] = f"layer of {node.op_type}"
        node.metadata_props["own"] = node.op_type
        node.outputs[0].metadata_props["value"] = node.op_type
    model.graph.initializers["s"].metadata_props["tensor"] = "kept"
    return model


def test_names_and_metadata_survive() -> None:
    model = _labelled()
    weight = model.graph.initializers["s"].const_value
    assert to_opset(model, 13) == []
    graph = model.graph
    values = {v.name: v for node in graph for v in node.outputs}
    assert {"h", "g", "y"} <= values.keys()
    assert [values[n].metadata_props["value"] for n in "hgy"] == ["Relu", "Gelu", "LayerNormalization"]
    assert {"my_Relu", "my_Gelu", "my_LayerNormalization"} <= {n.name for n in graph}
    assert {n.metadata_props[LAYER] for n in graph} == {
        f"layer of {op}" for op in ("Relu", "Gelu", "LayerNormalization")
    }
    assert all(n.metadata_props["own"] for n in graph)
    assert graph.metadata_props["graph"] == model.ir.metadata_props["model"] == "kept"
    assert graph.initializers["s"].metadata_props["tensor"] == "kept"
    assert graph.initializers["s"].const_value is weight
    assert all(v.type is not None and v.shape is not None for v in values.values())


def test_refusal_lists_every_operator_and_changes_nothing() -> None:
    text = (
        "f (int32[N,4] x, float[N,1,4,4] p) => (int32[N,4] y, float[N,1,2,2] q, float[N,4] r) "
        "{ y = BitwiseNot(x) q = AveragePool<kernel_shape=[2,2],dilations=[2,2]>(p) f = Cast<to=1>(x) r = Gelu(f) }"
    )
    model = as_model(_proto(21, text))
    for node in model.graph:
        node.name = f"the {node.op_type}"
    before = ir.to_proto(model.ir).SerializeToString()
    with pytest.raises(UnsupportedOpset) as caught:
        to_opset(model, 13)
    message = str(caught.value)
    assert "2 operators" in message
    assert "'the BitwiseNot'  (BitwiseNot)" in message
    assert "needs opset 18" in message
    assert "'the AveragePool'" in message
    assert "needs opset 19" in message
    assert "Gelu" not in message
    assert caught.value.hint == "opset 19 or above can"
    assert ir.to_proto(model.ir).SerializeToString() == before
    to_opset(model, 19)


@pytest.mark.parametrize("target", [10, 29])
def test_target_out_of_range(target: int) -> None:
    with pytest.raises(UsageError):
        to_opset(_labelled(), target)


@pytest.mark.parametrize(
    ("body", "inlined"),
    [pytest.param("r = Softmax(a)", False, id="in-place"), pytest.param("r = Gelu(a)", True, id="written-out")],
)
def test_functions_are_carried_too(body: str, inlined: bool) -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "own": 1]> f (float[N,4] x) => (float[N,4] y) { y = own.g(x) } '
        f'<domain: "own", opset_import: ["": 20]> g (a) => (r) {{ {body} }}'
    )
    want = outputs_of(proto)
    model = Model(ir.from_proto(proto), source=Source("onnx"))
    notes = to_opset(model, 12)
    out = ir.to_proto(model.ir)
    onnx.checker.check_model(out)
    assert bool(notes) == inlined == (not out.functions)
    assert differs(outputs_of(out), want, 1e-5, 1e-6) is None
    assert {o.version for f in [out, *out.functions] for o in f.opset_import if o.domain == ""} == {12}
