"""Every official node test of ONNX, carried from its own opset to each of 11 to 26.

Each must come out valid and with the test's own outputs (onnxruntime, else ONNX's reference), or be refused; what may
be refused below which opset is pinned here, so that a rule that stops working is seen.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.converters.passes.opset_cases import OPSETS, cases, outcome, variants

MAY_REFUSE_BELOW = {
    "AffineGrid": 20, "Attention": 13, "AveragePool": 19, "BitCast": 26, "BitShift": 28, "BitwiseAnd": 18,
    "BitwiseNot": 18, "BitwiseOr": 18, "BitwiseXor": 18, "Cast": 25, "CastLike": 25, "Celu": 13, "Col2Im": 18,
    "Compress": 13, "CumProd": 26, "DFT": 17, "DeformConv": 19, "DequantizeLinear": 25, "Einsum": 13, "Equal": 19,
    "GatherND": 12, "GridSample": 20, "Identity": 16, "If": 16, "ImageDecoder": 20, "LinearAttention": 27, "Loop": 16,
    "LpPool": 18, "MelWeightMatrix": 17, "OneHot": 13, "OptionalGetElement": 18, "OptionalHasElement": 18, "Pow": 12,
    "QLinearMatMul": 21, "QuantizeLinear": 25, "Range": 13, "ReduceMax": 20, "ReduceMin": 12, "RegexFullMatch": 20,
    "Reshape": 14, "Resize": 19, "ReverseSequence": 13, "RoiAlign": 16, "RotaryEmbedding": 13, "STFT": 17,
    "ScatterElements": 16,
    "ScatterND": 16, "SequenceMap": 17, "StringConcat": 20, "StringSplit": 20, "TensorScatter": 24, "Unique": 13,
}  # fmt: skip
"""Operators with a setting or an element type that lower opsets do not have."""
AT_RUN_TIME = "computed at run time"
"""Axes and sizes that are an attribute below must be constants; in half of the official tests they are inputs."""

ALSO = frozenset([
    "test_argmax_no_keepdims_example_select_last_index", "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_cast_FLOAT_to_BFLOAT16", "test_cast_e8m0_FLOAT_to_FLOAT8E8M0", "test_depthtospace_crd_mode_example",
    "test_dequantizelinear_axis", "test_gridsample_volumetric_nearest_align_corners_0", "test_hardmax_axis_2",
    "test_mod_float64_mixed_sign_fmod_0", "test_pow_types_float32_int64", "test_pow_types_int64_float32",
    "test_pow_types_int32_float32", "test_quantizelinear_axis", "test_quantizelinear_blocked_symmetric",
    "test_range_float16_type_positive_delta", "test_reduce_max_empty_set_bool",
    "test_reduce_sum_empty_axes_input_noop_example", "test_reshape_allowzero_reordered",
    "test_resize_downsample_scales_linear_antialias", "test_resize_downsample_sizes_linear_antialias",
    "test_resize_upsample_scales_nearest_axes_2_3", "test_resize_upsample_sizes_nearest_axes_2_3",
    "test_resize_tf_crop_and_resize_axes_2_3", "test_resize_upsample_sizes_nearest_not_larger",
    "test_resize_downsample_sizes_nearest_not_smaller", "test_resize_downsample_scales_linear_half_pixel_symmetric",
    "test_roialign_aligned_true", "test_split_1d_uneven_split_opset18",
])  # fmt: skip
"""Cases beside the first of each operator that reach rules which no first one does: these run every time, too."""


def _first_of_each() -> set[str]:
    seen: dict[tuple[str, int], str] = {}
    for name, case in cases().items():
        seen.setdefault((case.model.graph.node[0].op_type, case.model.opset_import[0].version), name)
    return set(seen.values())


def _rows() -> list[Any]:
    quick = _first_of_each() | ALSO
    return [pytest.param(name, id=name, marks=() if name in quick else pytest.mark.slow) for name in cases()]


@pytest.mark.filterwarnings("ignore")  # the reference evaluator divides by zero on purpose
@pytest.mark.parametrize("name", _rows())
def test_official_case_is_equal_or_refused(name: str) -> None:
    case = cases()[name]
    for suffix, proto, inputs, outputs in variants(case):
        source = proto.opset_import[0].version
        for target in OPSETS:
            if target == source:
                continue
            kind, detail = outcome(case, proto, inputs, outputs, target)
            pinned = target < MAY_REFUSE_BELOW.get(proto.graph.node[0].op_type, 0)
            allowed = kind == "refused" and (pinned or (AT_RUN_TIME in detail and not suffix))
            assert kind == "equal" or allowed, f"{name}{suffix}, {source} to {target}: {kind} {detail}"
