"""A network's trunk and a scikit-learn classifier as one ONNX model (skl2onnx and onnx.compose)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import compose, helper

from netferry.errors import LimitExceeded, MissingExtra, UnsupportedError, quoted
from netferry.schemas.layers import LAYER, LAYER_TYPE

FEATURES, LABEL, SCORES = "features", "label", "scores"
_PREFIX = "classifier/"


def with_classifier(
    trunk: bytes,
    pipeline: Any,
    size: int,
    pool: str,
    *,
    channels_last: Callable[[int], bool] = lambda _: False,
    double: bool = False,
) -> tuple[bytes, bytes]:
    """Return the model of trunk, pooling and classifier, and the classifier alone; both give ``label`` (N,) and
    ``scores`` (N, classes).

    Args:
        trunk: a model with one output, its weights inside.
        pipeline: a fitted scikit-learn pipeline on vectors of ``size`` features.
        pool: as :func:`netferry.runtime.features.pool.pooled` does it outside.
        channels_last: whether the trunk's value of this rank has its channels last.
        double: the classifier computes in float64.

    Raises:
        MissingExtra: skl2onnx is not installed.
        UnsupportedError: a classifier that cannot be said in ONNX, or an opset that skl2onnx does not know.
        LimitExceeded: a trunk above 2 GB.
    """
    model = onnx.ModelProto.FromString(trunk)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    head = _classifier(pipeline, size, opset, double=double)
    _append_pool(model, pool, opset, channels_last, double=double)
    alone = head.SerializeToString()
    head = compose.add_prefix(head, _PREFIX)
    head.ir_version = model.ir_version = max(head.ir_version, model.ir_version, 10)
    _same_opsets(model, head)
    merged = compose.merge_models(model, head, io_map=[(FEATURES, _PREFIX + FEATURES)])
    for name in (LABEL, SCORES):
        _rename(merged, _PREFIX + name, name)
    domains = {entry.domain: entry.version for entry in merged.opset_import}  # compose lists some twice
    merged.ClearField("opset_import")
    merged.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in domains.items())
    try:
        return merged.SerializeToString(), alone
    except ValueError:
        raise LimitExceeded("a network above 2 GB cannot be put into one file with a classifier") from None


def _classifier(pipeline: Any, size: int, opset: int, *, double: bool) -> onnx.ModelProto:
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    except ImportError:
        raise MissingExtra("skl2onnx", "head", "a classifier as ONNX") from None
    last = pipeline[-1]
    # scores as an array, and an SVM's distances as they are
    options = {id(last): {"zipmap": False} if hasattr(last, "predict_proba") else {"raw_scores": True}}
    kind: Any = DoubleTensorType if double else FloatTensorType
    try:
        head = to_onnx(
            pipeline,
            initial_types=[(FEATURES, kind([None, size]))],
            target_opset={"": opset, "ai.onnx.ml": 3},
            options=options,
        )
    except Exception as error:  # skl2onnx raises RuntimeError, NotImplementedError and others
        raise UnsupportedError(
            f"the classifier cannot be said in ONNX at opset {opset}: {quoted(error, 300)[1:-1]}",
            hint="netferry convert MODEL -o OUT --opset 21 brings the network to another opset",
        ) from None
    assert isinstance(head, onnx.ModelProto)
    for node in head.graph.node:
        node.metadata_props.add(key=LAYER, value="classifier")
        node.metadata_props.add(key=LAYER_TYPE, value=type(last).__name__)
    for value, name in zip([v.name for v in head.graph.output], (LABEL, SCORES), strict=True):
        _rename(head, value, name)
    return head


def _same_opsets(model: onnx.ModelProto, head: onnx.ModelProto) -> None:
    """skl2onnx writes the lowest opset that its operators need; they mean the same at the trunk's."""
    known = {o.domain: o.version for o in model.opset_import}
    for entry in head.opset_import:
        entry.version = max(entry.version, known.get(entry.domain, 0))
        if entry.domain in known and entry.version != known[entry.domain]:
            raise UnsupportedError(
                f"the classifier needs opset {entry.version} of {entry.domain or 'ONNX'}, the network has "
                f"{known[entry.domain]}",
                hint=f"netferry convert MODEL -o OUT --opset {entry.version}",
            )


def _append_pool(
    model: onnx.ModelProto, pool: str, opset: int, channels_last: Callable[[int], bool], *, double: bool
) -> None:
    """Let the only output be the features: vectors of the type that the classifier takes."""
    kind = onnx.TensorProto.DOUBLE if double else onnx.TensorProto.FLOAT
    graph = model.graph
    value = graph.output[0].name
    shape = graph.output[0].type.tensor_type.shape.dim
    rank = len(shape) if graph.output[0].type.tensor_type.HasField("shape") else 4
    if pool in ("avg", "max") and rank > 2:
        axes = list(range(1, rank - 1) if channels_last(rank) else range(2, rank))
        operator = "ReduceMean" if pool == "avg" else "ReduceMax"
        if opset >= 18:  # axes became an input
            graph.initializer.append(helper.make_tensor("features/axes", onnx.TensorProto.INT64, [len(axes)], axes))
            node = helper.make_node(operator, [value, "features/axes"], ["features/pooled"], keepdims=0)
        else:
            node = helper.make_node(operator, [value], ["features/pooled"], keepdims=0, axes=axes)
    else:
        node = helper.make_node("Flatten", [value], ["features/pooled"], axis=1)
    cast = helper.make_node("Cast", ["features/pooled"], [FEATURES], to=kind)
    for number, made in enumerate((node, cast)):
        made.name = f"features/{made.op_type}" if number else "features"
        made.metadata_props.add(key=LAYER, value="features")
        made.metadata_props.add(key=LAYER_TYPE, value=f"Pool {pool}")
        graph.node.append(made)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(FEATURES, kind, ["batch", None]))


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for value in model.graph.output:
        if value.name == old:
            value.name = new
