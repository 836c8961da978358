"""``quantize``: a network in int8, calibrated on the user's data, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.quantizing_data import CalibrationData
from netferry.api.reading import StrPath, load
from netferry.api.saving import save
from netferry.errors import UnsupportedOption, UsageError, quoted
from netferry.schemas.publish import keep_sources, temporary_folder

if TYPE_CHECKING:
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Model

LEAST_OPSET = 13
"""DequantizeLinear has an axis, for one scale per channel, from opset 13 on"""
KEPT = ("Softmax", "LogSoftmax")
"""operators that stay in float32: 256 steps are too few for probabilities of many classes"""


def quantize(
    source: StrPath | Model,
    target: StrPath,
    calibrate: StrPath | Sequence[StrPath],
    *,
    weights: StrPath | None = None,
    evaluate: StrPath | Sequence[StrPath] | None = None,
    max_drop: float = 0.01,
    samples: int = 256,
    method: str = "minmax",
    keep_layers: Sequence[str] = (),
    output: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    report: StrPath | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Write a network as int8 ONNX (QDQ form, one scale per channel), unless it becomes worse than allowed.

    BatchNormalization is folded into convolutions first, and the opset raised to 13 where it is lower. Labels,
    preprocessing, names and layers stay.

    Args:
        source: a file of any format (see :func:`load` for ``weights`` and the further options) or a model.
        target: the ONNX file to write.
        calibrate: data that the ranges of activations are measured on: a folder of pictures, which go through the
            network's own preprocessing, .npy or .npz arrays, or whatever else netferry reads as data.
        evaluate: labelled data that accuracy is measured on; the calibration data by default.
        max_drop: how much worse the result may be. Where the data is labelled and the network a classifier: how far
            accuracy may fall (0.01: one point). Else, for outputs with classes: the share of calibration inputs whose
            first class may change. Else: the largest difference over the largest value.
        samples: how many items to calibrate with, drawn from the whole data.
        method: how the range of an activation is found: ``minmax``, ``entropy`` or ``percentile``.
        keep_layers: layers, or operators by type, that stay in float32.
        output: the output with the scores, where there are several.
        batch_size: items in one run.
        seed: of the choice of items.
        report: write the result as JSON here too.

    Returns:
        ``file``, ``bytes_before`` and ``bytes_after``, ``samples``, ``accuracy`` (``before``, ``after``, ``items``) or
        None, ``difference`` and ``agreement`` per output, ``max_drop``, ``judged_by``, ``operators`` that were
        quantized and that stayed in float32, ``checks``.

    Raises:
        UsageError: no data, no such layer.
        UnsupportedOption: the network has nothing to quantize.
        CheckFailed: it becomes worse than ``max_drop`` allows; nothing is written.
    """
    from netferry.converters.passes.opset import to_opset
    from netferry.converters.passes.optimize import optimize
    from netferry.converters.passes.outside import OUTSIDE
    from netferry.runtime.quantize import quantize as run
    from netferry.schemas.graph import CANONICAL_OPSET
    from netferry.schemas.layers import layer_of
    from netferry.schemas.publish import write_whole

    model = load(source, weights, **reading) if isinstance(source, (str, Path)) else source
    model.require_values()
    keep_sources(target, *model.source.files)
    if model.opset < LEAST_OPSET:
        model.notes.extend(to_opset(model, CANONICAL_OPSET))
    optimize(model, "full", disable=tuple(OUTSIDE))
    known = {name for n in model.nodes() for name in (layer_of(n)[0], n.op_type)}
    if unknown := [name for name in keep_layers if name not in known]:
        raise UsageError(f"no layer and no operator {quoted(unknown[0])}")
    _name_nodes(model.graph)
    kept = [n.name or "" for n in model.graph if n.op_type in KEPT or {layer_of(n)[0], n.op_type} & set(keep_layers)]
    with temporary_folder() as folder:
        before = Path(folder) / "float.onnx"
        after = Path(folder) / "int8.onnx"
        save(model, before, check="structure")
        data = CalibrationData(before, calibrate, evaluate, output, batch_size)
        found = run(
            before,
            after,
            data.feeds(samples, seed),
            max_drop=max_drop,
            score=data.accuracy if data.truth() else None,
            keep_nodes=kept,
            method=method,
        )
        made = load(after, format="onnx")
        _finish(made, model)
        counts = _counts(made.graph)
        if not counts[0]:
            raise UnsupportedOption("no operator of this network can be quantized", file=_first(model))
        written = save(made, target)
    result = {
        "file": str(target),
        "bytes_before": found.bytes_before,
        "bytes_after": written["outputs"][0]["bytes"],
        "samples": data.taken,
        "method": method,
        "accuracy": None
        if found.score_before is None
        else {"before": found.score_before, "after": found.score_after, "items": data.judged},
        "difference": found.difference,
        "agreement": found.agreement,
        "max_drop": max_drop,
        "judged_by": "accuracy" if found.score_before is not None else "agreement" if found.agreement else "difference",
        "operators": {"int8": dict(sorted(counts[0].items())), "float": dict(sorted(counts[1].items()))},
        "preprocessing_from": data.recipe_from,
        "checks": written["checks"],
        "outputs": written["outputs"],
    }
    if report is not None:
        import json

        write_whole(report, json.dumps(result, indent=2, allow_nan=False, default=str) + "\n")
    return result


def _first(model: Model) -> str | None:
    return model.source.files[0] if model.source.files else None


def _name_nodes(graph: ir.Graph) -> None:
    """Give every node a name of its own: onnxruntime's quantizer takes nodes by name."""
    taken = {n.name for n in graph.all_nodes() if n.name}
    seen: set[str] = set()
    for node in graph.all_nodes():
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        base = node.name or (node.outputs[0].name if node.outputs else "") or node.op_type
        number, name = 0, base
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        node.name = name
        taken.add(name)
        seen.add(name)


def _finish(made: Model, model: Model) -> None:
    """Labels, recipe and source as before; the new nodes belong to the layers beside them."""
    from netferry.schemas.layers import LAYER, LAYER_TYPE

    made.labels, made.tasks, made.source = dict(model.labels), dict(model.tasks), model.source
    made.preprocessing = dict(model.preprocessing)
    made.notes = [*model.notes, *made.notes]
    made.ir.metadata_props.pop("onnx.infer", None)

    def stamp(node: ir.Node, other: ir.Node | None) -> None:
        if other is not None and LAYER not in node.metadata_props and LAYER in other.metadata_props:
            for key in (LAYER, LAYER_TYPE):
                if key in other.metadata_props:
                    node.metadata_props[key] = other.metadata_props[key]

    new = [n for n in made.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in new:  # in order: a value's Q and DQ go with what makes it
        value = node.inputs[0]
        stamp(node, None if value is None else value.producer())
    for node in reversed(new):  # a weight's, and an input's, with what reads it
        readers = [use.node for v in node.outputs for use in v.uses()]
        stamp(node, next((r for r in readers if LAYER in r.metadata_props), None))
    place = {node: i for i, node in enumerate(made.graph)}
    for node in new:  # the quantizer puts a weight's first; layers are listed in the order of their nodes
        readers = [use.node for v in node.outputs for use in v.uses() if use.node in place]
        if readers and node.inputs[0] is not None and node.inputs[0].is_initializer():
            made.graph.remove(node)
            made.graph.insert_before(min(readers, key=place.__getitem__), node)


def _counts(graph: ir.Graph) -> tuple[Counter[str], Counter[str]]:
    """Operators that work on int8 (all that they read of floats is dequantized), and the others."""
    low: Counter[str] = Counter()
    high: Counter[str] = Counter()
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        makers = [v.producer() for v in node.inputs if v is not None]
        read = [m for m in makers if m is not None]
        is_low = bool(read) and all(m.op_type == "DequantizeLinear" for m in read) and node.op_type not in KEPT
        (low if is_low else high)[node.op_type] += 1
    return low, high
