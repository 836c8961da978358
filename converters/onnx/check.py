"""Is a model valid ONNX? Names, onnx's full check and strict shape inference, all without the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.checker
import onnx.helper
import onnx.shape_inference

from netferry.converters.onnx.sparse import seen_dense
from netferry.converters.onnx.structure import Structure
from netferry.errors import CheckFailed, UnsupportedLayer, quoted
from netferry.schemas.inference import safe_to_infer
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of
from netferry.schemas.metadata import proto_nodes
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Model
from netferry.schemas.watch import bounded_by_size

SOURCE_FAULT = "shape inference, which fails on the source file too"
REASON = "netferry.reason"
"""metadata of a placeholder: why its layer could not be read"""


def refuse_placeholders(model: Model, *, allowed: bool) -> None:
    """Raise :class:`UnsupportedLayer` for layers nobody could read, all of them at once.

    ``allowed`` lets them pass; their domain is then imported, as ONNX asks for every domain used.
    """
    found = [node for node in model.nodes() if node.domain == PLACEHOLDER_DOMAIN]
    if found and allowed:
        model.ir.opset_imports.setdefault(PLACEHOLDER_DOMAIN, 1)
    if not found or allowed:
        return
    rows: list[tuple[str, str, str]] = []
    for node in found:
        name, kind = layer_of(node)
        rows.append((name, kind, node.metadata_props.get(REASON, "no reader for this type")))
    raise UnsupportedLayer(
        rows,
        file=model.source.files[0] if model.source.files else None,
        hint="register a reader with --plugin, or write them as they are with --allow-placeholders",
    )


def check_names(model: Model) -> None:
    """Raise :class:`CheckFailed` where two values of the graph share a name, an output has none, a size is negative,
    an input is without a shape.

    onnx's own message for names names no node, and an initializer may share a name with an input only (IR < 4); its
    inference gives windows that are larger than their input a negative number of places. -1 may stand for "any".
    """
    graph = model.graph
    made = [(v.name, n.name) for n in graph for v in n.outputs if v.name]
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and any(isinstance(d, int) and d < -1 for d in value.shape):
                raise CheckFailed(
                    f"{quoted(value.name)} would have shape {value.shape}", layer=node.name or node.op_type
                )
    count = Counter(name for name, _ in made)
    given = {v.name for v in graph.inputs} | set(graph.initializers)
    for name, node in made:
        if count[name] > 1 or name in given:
            raise CheckFailed(f"the value {quoted(name)} is made twice", layer=node)
    inputs = Counter(v.name for v in graph.inputs)
    outputs = Counter(v.name for v in graph.outputs)
    for what, names in (("input", inputs), ("output", outputs)):
        for name, n in names.items():
            if n > 1 or not name:
                raise CheckFailed(f"the {what} {quoted(name)} is there {n} times" if name else f"an {what} has no name")
    for value in graph.inputs:
        if isinstance(value.type, ir.TensorType) and value.shape is None:
            hint = f"give it one: --input-shape {value.name}=SIZE,SIZE…"
            raise CheckFailed(f"the input {quoted(value.name)} has no shape, not even a rank", hint=hint)


def check_structure(structure: Structure, folder: Path, source: Callable[[], bytes | None]) -> str | None:
    """Run onnx's full check, shape inference in strict mode included, over the structure.

    The weights left out are declared as external data: the check looks at their types and shapes and at whether
    their file exists, never at the values.

    Args:
        structure: the model.
        folder: where to put the structure for the time of the check: in a file called like its token, which the
            weights left out claim to lie in. The caller removes it.
        source: gives the structure of the ONNX file that the model came from, if any. Where that fails shape
            inference in the very same words (as files do whose shapes along the way were never true, which runtimes
            do not mind), the finding is told and no failure.

    Returns:
        What was left out of the check, or None.

    Raises:
        CheckFailed: the model is not valid.
    """
    file = folder / structure.token
    try:
        file.write_bytes(_seen_by_check(structure.proto, structure.token).SerializeToString())
        _check(file)
    except onnx.checker.ValidationError as error:
        why = _short(error)
        # an output without shape or type, as inference gave none: that is where the reason lies
        if "'shape' of 'type'" in why or "'type' of 'value_info'" in why:
            why = _inference_fails(file) or _without_shape(structure.proto) or why
        raise CheckFailed(f"not valid ONNX: {why}") from None
    except onnx.shape_inference.InferenceError as error:
        told = _short(error)
        needs_weight = "external tensor" in str(error)  # a shape that depends on the values of a big weight
        if not needs_weight and _inference_says(source(), file) != told:
            raise CheckFailed(f"shapes or types do not fit: {told}") from None
        try:
            file.write_bytes(_seen_by_check(structure.proto, structure.token).SerializeToString())
            _check(file, full=False)
        except onnx.checker.ValidationError as other:
            raise CheckFailed(f"not valid ONNX: {_short(other)}") from None
        if needs_weight:
            return "shape inference, which needs the values of a weight"
        return f"{SOURCE_FAULT}: {told}"
    except (LookupError, ValueError, RuntimeError) as error:
        raise CheckFailed(f"not valid ONNX: {_short(error)}") from None
    return None


def _without_shape(proto: onnx.ModelProto) -> str | None:
    for value in proto.graph.output:
        kind = value.type.WhichOneof("value")
        if kind is None or (kind == "tensor_type" and not value.type.tensor_type.HasField("shape")):
            return f"the output {quoted(value.name)} has no shape, and neither inference nor a run tells its rank"
    return None


def _seen_by_check(original: onnx.ModelProto, token: str) -> onnx.ModelProto:
    """The message as onnx's inference understands it: sparse tensors dense, defaults that it stumbles over said aloud.

    From opset 18 on inference of onnx 1.23 fails on a MeanVarianceNormalization whose axes are the default.
    """
    original = safe_to_infer(original)
    proto = seen_dense(original, token)
    silent = [n for n in proto_nodes(proto) if n.op_type == "MeanVarianceNormalization" and not n.attribute]
    if silent and proto is original:
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        silent = [n for n in proto_nodes(proto) if n.op_type == "MeanVarianceNormalization" and not n.attribute]
    for node in silent:
        node.attribute.append(onnx.helper.make_attribute("axes", [0, 2, 3]))
    return proto


def _inference_says(structure: bytes | None, file: Path) -> str | None:
    """What strict shape inference has against a file's structure, or None."""
    if structure is None:
        return None
    try:
        file.write_bytes(_seen_by_check(onnx.ModelProto.FromString(structure), file.name).SerializeToString())
        _check(file)
    except onnx.shape_inference.InferenceError as error:
        return _short(error)
    except (onnx.checker.ValidationError, ValueError, RuntimeError):
        return None
    return None


def _inference_fails(file: Path) -> str | None:
    """Why strict shape inference fails on a file, None where it does not."""
    try:
        path, size = str(file), file.stat().st_size
        bounded_by_size(lambda: onnx.shape_inference.infer_shapes_path(path, path, strict_mode=True), size)
    except (onnx.shape_inference.InferenceError, LookupError, ValueError, RuntimeError) as error:
        return _short(error)
    return None


def _check(file: Path, *, full: bool = True) -> None:
    """onnx's check, by default with strict inference; a file that it comes to no end with ends the sandbox's child."""
    bounded_by_size(lambda: onnx.checker.check_model(str(file), full_check=full), file.stat().st_size)


def _short(error: Exception) -> str:
    return quoted(" ".join(str(error).split()), 600)[1:-1]
