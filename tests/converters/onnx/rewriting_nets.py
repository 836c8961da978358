"""Small ONNX networks of many kinds, with what they are fed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

Net = tuple[onnx.ModelProto, dict[str, Any]]
NETS: dict[str, Callable[[], Net]] = {}
RNG = np.random.default_rng


def net(make: Callable[[], Net]) -> Callable[[], Net]:
    NETS[make.__name__] = make
    return make


def normal(*shape: int, seed: int = 0, kind: Any = np.float32) -> np.ndarray:
    return (RNG(seed).standard_normal(shape) * 0.5).astype(kind)


def parsed(text: str, opset: int = 17, ir: int = 8, **tensors: np.ndarray) -> onnx.ModelProto:
    model = parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}]> net {text}')
    for name, values in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


@net
def linear() -> Net:
    text = "(float[N, 32] x) => (float[N, 40] y) { h = MatMul(x, w)  s = Add(h, b)  y = Relu(s) }"
    return parsed(text, w=normal(32, 40), b=normal(40)), {"x": normal(2, 32, seed=1)}


@net
def odd_numbers() -> Net:
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 0, 3e38, 1], np.float32)
    text = "(float[N, 8] x) => (float[N, 8] y, float[8] z) { y = Add(x, b)  z = Reciprocal(b) }"
    return parsed(text, b=odd), {"x": np.zeros((2, 8), np.float32)}


@net
def convolutions() -> Net:
    text = """(float[N, 3, 8, 8] x) => (float[N, 5] y) {
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, cb)  n = BatchNormalization(a, s, o, m, v)
        r = Relu(n)  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)  g = GlobalAveragePool(p)
        f = Flatten(g)  l = Gemm<transB = 1>(f, fw, fb)  y = Softmax(l) }"""
    model = parsed(text, opset=13, ir=7, w=normal(6, 3, 3, 3), cb=normal(6, seed=1), s=normal(6, seed=2),
                   o=normal(6, seed=3), m=normal(6, seed=4), v=np.abs(normal(6, seed=5)),
                   fw=normal(5, 6), fb=normal(5))  # fmt: skip
    return model, {"x": normal(2, 3, 8, 8, seed=6)}


@net
def old_convolutions() -> Net:
    """Opset 8, IR version 3: every initializer is an input."""
    text = """(float[N, 3, 6, 6] x) => (float[N, 4] y) { a = Conv<kernel_shape = [3, 3]>(x, w)
        n = BatchNormalization<epsilon = 0.001>(a, s, o, m, v)  r = LeakyRelu<alpha = 0.1>(n)
        d = Dropout<ratio = 0.3>(r)  f = Reshape(d, shape)
        g = Gemm<transB = 1>(f, fw, fb)  y = Softmax<axis = 1>(g) }"""
    model = parsed(text, opset=8, ir=3, w=normal(2, 3, 3, 3), s=normal(2), o=normal(2, seed=3), m=normal(2, seed=4),
                   v=np.abs(normal(2)), shape=np.array([0, -1]), fw=normal(4, 32), fb=normal(4))  # fmt: skip
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model, {"x": normal(2, 3, 6, 6, seed=6)}


@net
def recurrent() -> Net:
    text = """(float[T, N, 4] x) => (float[T, 1, N, 6] y, float[T, 2, N, 5] g) {
        y, h, c = LSTM<hidden_size = 6>(x, w, r, b, , , , p)  g, gh = GRU<hidden_size = 5, direction = "bidirectional",
        linear_before_reset = 1>(x, gw, gr) }"""
    model = parsed(text, w=normal(1, 24, 4), r=normal(1, 24, 6, seed=1), b=normal(1, 48), p=normal(1, 18),
                   gw=normal(2, 15, 4), gr=normal(2, 15, 5, seed=1))  # fmt: skip
    return model, {"x": normal(3, 2, 4, seed=6)}


@net
def attention() -> Net:
    text = """(float[N, L, 16] x) => (float[N, L, 16] y) {
        q0 = MatMul(x, wq)  k0 = MatMul(x, wk)  v0 = MatMul(x, wv)  q1 = Reshape(q0, heads)  k1 = Reshape(k0, heads)
        v1 = Reshape(v0, heads)  q = Transpose<perm = [0, 2, 1, 3]>(q1)  k = Transpose<perm = [0, 2, 3, 1]>(k1)
        v = Transpose<perm = [0, 2, 1, 3]>(v1)  s = MatMul(q, k)  t = Div(s, root)  p = Softmax<axis = -1>(t)
        o = MatMul(p, v)  o1 = Transpose<perm = [0, 2, 1, 3]>(o)  o2 = Reshape(o1, flat)  o3 = Add(o2, x)
        y = LayerNormalization<axis = -1>(o3, g, b) }"""
    model = parsed(text, wq=normal(16, 16), wk=normal(16, 16, seed=1), wv=normal(16, 16, seed=2), g=normal(16),
                   b=normal(16), heads=np.array([0, 0, 4, 4]),
                   flat=np.array([0, 0, -1]), root=np.array(2, np.float32))  # fmt: skip
    return model, {"x": normal(2, 5, 16, seed=6)}


@net
def quantized() -> Net:
    text = """(float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y) {
        q = QuantizeLinear(x, xs, xz)  d = DequantizeLinear(q, xs, xz)  w = DequantizeLinear<axis = 0>(wq, ws, wz)
        a = Conv<kernel_shape = [3, 3]>(d, w)  e = QuantizeLinear(a, xs, xz)  y = DequantizeLinear(e, xs, xz) }"""
    small = np.clip(np.round(normal(4, 3, 3, 3) * 60), -127, 127).astype(np.int8)
    model = parsed(text, wq=small, ws=np.array([0.01, 0.02, 0.03, 0.04], np.float32), wz=np.zeros(4, np.int8),
                   xs=np.array(0.05, np.float32), xz=np.array(120, np.uint8))  # fmt: skip
    return model, {"x": normal(2, 3, 6, 6, seed=6)}


@net
def branches() -> Net:
    text = """(float[N, 6] x, bool c) => (float[N, M] y) {
        y = If (c) <then_branch = t () => (float[N, M] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[N, M] d) {
                        k = Constant<value = float[1] {1.0}>()  d = Add(x, k) }> }"""
    return parsed(text, w=normal(6, 3)), {"x": normal(2, 6), "c": np.array(True)}


@net
def loop() -> Net:
    text = """(float[N, 3] x) => (float[N, 3] y, float[K, N, 3] all) {
        y, all = Loop (times, , x) <body = b (int64 i, bool go, float[N, 3] v) =>
            (bool go2, float[N, 3] v2, float[N, 3] o) {
            go2 = Identity(go)  v2 = Mul(v, scale)  o = Add(v2, x) }> }"""
    return parsed(text, times=np.array(3), scale=np.array(1.5, np.float32)), {"x": normal(2, 3)}


@net
def scan() -> Net:
    text = """(float[T, 3] x) => (float[3] last, float[T, 3] sums) {
        last, sums = Scan (zero, x) <num_scan_inputs = 1, body = b (float[3] s, float[3] e) =>
            (float[3] s2, float[3] o) {
            s2 = Add(s, e)  o = Identity(s2) }> }"""
    return parsed(text, zero=np.zeros(3, np.float32)), {"x": normal(4, 3)}


@net
def sequences() -> Net:
    text = """(float[N, 4] x) => (float[M, 4] y, seq(float[N, 2]) parts, int64 n) {
        parts = SplitToSequence<axis = 1>(x, two)
        n = SequenceLength(parts)  a = SequenceAt(parts, one)  s = SequenceConstruct(x, x)
        b = ConcatFromSequence<axis = 0>(s)
        y = Relu(b) }"""
    return parsed(text, two=np.array(2), one=np.array(-1)), {"x": normal(2, 4)}


@net
def words() -> Net:
    model = parsed(
        "(int64[N] i) => (string[N] y, int64[N] j) { y = Gather(words, i)  j = Add(i, one) }", one=np.array([1])
    )
    words = [b"a", b"", "zwö".encode(), b"x" * 3000]
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [4], np.array(words, object)))
    return model, {"i": np.array([3, 1, 2])}


@net
def element_types() -> Net:
    text = """(float[N, 3] x) => (float[N, 3] y, double[3] d, int32[3] i, uint64[2] u, bool[3] t) {
        h = Cast<to = 1>(half)  b = Cast<to = 1>(brain)  e = Cast<to = 1>(eight)  s = Cast<to = 1>(sixteen)
        y1 = Add(x, h)
        y2 = Add(y1, b)  y3 = Add(y2, e)  y = Add(y3, s)  d = Identity(double)  i = Identity(wide)  u = Identity(large)
        t = Not(truth) }"""
    model = parsed(text, half=normal(3, kind=np.float16), brain=normal(3, kind=ml_dtypes.bfloat16),
                   eight=np.array([-128, 127, 0], np.int8),
                   sixteen=np.array([-32768, 2, 65], np.int16), double=normal(3, kind=np.float64),
                   wide=np.array([-(1 << 31), 0, 5], np.int32), large=np.array([(1 << 64) - 1, 0], np.uint64),
                   truth=np.array([True, False, True]))  # fmt: skip
    return model, {"x": normal(2, 3)}


@net
def small_types() -> Net:
    text = """(float[N, 5] x) => (float[N, 3] y) { w = DequantizeLinear(w4, ws)  f = Cast<to = 1>(f8)  h = MatMul(x, w)
        y = Add(h, f) }"""
    model = parsed(text, opset=21, ir=10, ws=np.array(0.25, np.float32))
    model.graph.initializer.append(helper.make_tensor("w4", TensorProto.INT4, [5, 3], np.arange(15) - 8))
    model.graph.initializer.append(helper.make_tensor("f8", TensorProto.FLOAT8E4M3FN, [3], [0.5, -1, 2]))
    return model, {"x": normal(2, 5)}


@net
def empty() -> Net:
    text = """(float[N, 4] x) => (float[N, 4] y, float[N, 0] z) {
        a = Concat<axis = 0>(x, none)  y = Relu(a)  z = MatMul(x, thin) }"""
    return parsed(text, none=np.zeros((0, 4), np.float32), thin=np.zeros((4, 0), np.float32)), {"x": normal(2, 4)}


@net
def picture() -> Net:
    text = """(float[N, 2, H, W] x) => (float[N, 2, A, B] y, float[N, 2, C, D] z) {
        r = Resize<mode = "linear">(x, , scales)
        c = Clip(r, , top)  y = Pad(c, pads)  s = Slice(x, from, to, axes)
        z = ReduceMean<axes = [2], keepdims = 1>(s) }"""
    model = parsed(text, scales=np.array([1, 1, 2, 2], np.float32), top=np.array(0.4, np.float32),
                   pads=np.array([0, 0, 1, 0, 0, 0, 0, 2]), to=np.array([-1]), axes=np.array([3]))  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "from"))
    return model, {"x": normal(1, 2, 4, 5)}


@net
def several_outputs() -> Net:
    text = """(float[N, 6] x, int64[K] k) =>
        (float[N, 2] a, float[N, 4] b, float[N, J] v, int64[N, J] i, float total, float[1] one) {
        a, b = Split<axis = 1>(x, sizes)  v, i = TopK<axis = 1>(x, k)  total = ReduceSum<keepdims = 0>(x)
        one = Reshape(total, minus) }"""
    return parsed(text, sizes=np.array([2, 4]), minus=np.array([-1])), {"x": normal(2, 6), "k": np.array([3])}


@net
def embedding() -> Net:
    text = """(int64[N, L] ids) => (float[N, 4] y) { e = Gather(table, ids)  m = ReduceMean<axes = [1], keepdims = 0>(e)
        h = Einsum<equation = "ij,jk->ik">(m, w)  y = Tanh(h) }"""
    return parsed(text, table=normal(7, 8), w=normal(8, 4, seed=1)), {"ids": np.array([[0, 6, 2], [1, 1, 5]])}


@net
def sizes_at_run_time() -> Net:
    text = """(float[N, 3, L] x) => (float[N, M] y) { s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, axes)
        t = Concat<axis = 0>(u, minus)  r = Reshape(x, t)  m = ReduceMax<axes = [1], keepdims = 1>(r)
        y = Sub(r, m) }"""
    return parsed(text, zero=np.array(0), axes=np.array([0]), minus=np.array([-1])), {"x": normal(2, 3, 4)}


@net
def newest() -> Net:
    text = """(float[N, 2, L, 8] x) => (float[N, 2, L, 8] y, float[N, 2, L, 8] z) { y = Attention(x, x, x, , , )
        g = Gelu<approximate = "tanh">(x)  z = RMSNormalization<axis = -1>(g, scale) }"""
    return parsed(text, opset=23, ir=11, scale=normal(8)), {"x": normal(1, 2, 3, 8)}


OFFICIAL = [
    "abs", "affine_grid_2d_expanded", "and_bcast3v1d", "argmax_keepdims_example", "attention_4d_causal_expanded",
    "averagepool_2d_ceil", "basic_conv_with_padding", "batchnorm_epsilon", "center_crop_pad_crop",
    "clip_default_inbounds", "clip_default_max", "col2im", "concat_2d_axis_negative_1", "constant_pad",
    "constantofshape_int_zeros", "convtranspose_output_shape", "cumsum_2d_axis_1", "deform_conv_with_mask_bias",
    "det_nd", "dft_inverse", "dropout_default_mask_ratio", "dynamicquantizelinear_expanded", "expand_dim_changed",
    "eyelike_with_dtype", "gather_elements_negative_indices", "gathernd_example_int32_batch_dim1",
    "gelu_tanh_1_expanded", "gemm_all_attributes", "globalmaxpool", "gridsample_bicubic",
    "group_normalization_epsilon", "hardmax_one_hot", "identity_sequence", "identity_opt", "if_seq",
    "instancenorm_epsilon", "layer_normalization_4d_axis1_expanded_ver18", "loop11", "loop13_seq", "loop16_seq_none",
    "lppool_2d_pads", "lrn_default", "lstm_with_peepholes", "matmulinteger",
    "maxpool_with_argmax_2d_precomputed_pads", "maxunpool_export_without_output_shape", "mvn",
    "nonmaxsuppression_suppress_by_IOU", "nonzero_example", "pow_types_float32_int64", "prelu_broadcast",
    "qlinearconv", "qlinearmatmul_3D_int8_float32", "reduce_sum_empty_axes_input_noop",
    "reshape_zero_and_negative_dim", "resize_upsample_sizes_nearest_axes_2_3", "resize_tf_crop_and_resize",
    "rnn_seq_length", "rotary_embedding_with_rotary_dim", "scan9_sum", "scatter_elements_with_reduction_max",
    "scatternd_multiply", "sequence_insert_at_front", "sequence_map_add_2_sequences", "shape_start_1_end_negative_1",
    "simple_rnn_with_initial_bias", "slice_default_axes", "softmax_axis_1_expanded_ver18",
    "split_zero_size_splits_opset18", "squeeze_negative_axes", "sce_NCd1d2d3d4d5_mean_weight_log_prob_expanded",
    "stft_with_window", "string_split_basic", "swish", "tensorscatter",
    "tfidfvectorizer_tf_batch_uniandbigrams_skip5", "top_k_negative_axis", "training_dropout_zero_ratio_mask",
    "unsqueeze_two_axes", "upsample_nearest", "where_long_example", "bitwise_and_i32_2d", "blackmanwindow_symmetric",
    "hannwindow", "regex_full_match_basic",
]  # fmt: skip
"""official tests of single operators (test_NAME): types, settings and functions of many kinds"""


@functools.cache
def _official() -> dict[str, Any]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return {case.name: case for case in load_model_tests(kind="node")}


def official(name: str) -> Net | None:
    """An official test's model and inputs, all but the first of them initializers where that can be; None: no such."""
    case = _official().get(f"test_{name}")
    if case is None or case.model is None or not case.data_sets:
        return None
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    feeds: dict[str, Any] = {}
    for value, given in zip(list(model.graph.input), case.data_sets[0][0], strict=False):
        array = numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else given
        array = np.asarray(array) if isinstance(array, np.generic) else array
        if feeds and isinstance(array, np.ndarray) and array.dtype.kind not in "OUS" and model.ir_version >= 4:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
            model.graph.input.remove(value)
        else:
            feeds[value.name] = array
    return model, feeds
