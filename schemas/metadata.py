"""What ONNX has no field for, as ``metadata_props``: source, labels, preprocessing, layers, roles.

The keys are those of metadata.schema.json. Values come from strangers: one that cannot be understood is left out with
a warning, never a failure, because the network itself is sound without it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from netferry.errors import NetferryError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, LAYER_TYPE, LIES, ROLE, Role, role_by_use
from netferry.schemas.model import Model, Note
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.walk import bodies_in, nodes_of

SOURCE, LABELS, PREPROCESSING = "netferry.source", "netferry.labels", "netferry.preprocessing"
TASKS, VERSION, NAMES = "netferry.tasks", "netferry.version", "netferry.names"
MODEL_KEYS = (SOURCE, LABELS, TASKS, PREPROCESSING, VERSION, NAMES)
NODE_METADATA_IR = 10
"""the IR version whose nodes, values and tensors have ``metadata_props``"""
MAX_BYTES = 100_000_000
"""larger values are not looked at"""
_MAX_SIDE = 65_536

_FAULTS = (NetferryError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError)


# writing -------------------------------------------------------------------------------------------------------


def model_metadata(model: Model, version: str) -> dict[str, str]:
    """Return the model's facts as ``netferry.*`` entries; facts that it does not have are left out."""
    out = {SOURCE: _dump(origin(model)), VERSION: version}
    if model.labels:
        out[LABELS] = _dump(model.labels)
    if model.tasks:
        out[TASKS] = _dump(model.tasks)
    if model.preprocessing:
        out[PREPROCESSING] = _dump({name: recipe.as_dict() for name, recipe in model.preprocessing.items()})
    return out


def origin(model: Model) -> dict[str, Any]:
    """Return where the network came from first: format, version, file names without folders.

    A file that netferry wrote tells its own source; it stays what it is through any number of passes.
    """
    known = model.source.details.get("origin")
    if isinstance(known, dict):
        return known
    source = model.source
    names = [Path(file).name for file in source.files]
    out: dict[str, Any] = {"format": source.format, "files": names}
    return out if source.version is None else {**out, "version": source.version}


def roles_to_record(graphs: list[ir.Graph]) -> dict[str, str]:
    """Return the roles of initializers that their use does not tell, by name."""
    out: dict[str, str] = {}
    for graph in graphs:
        for name, value in graph.initializers.items():
            recorded = value.metadata_props.get(ROLE)
            if recorded is not None and recorded != role_by_use(value).value:
                out[name] = recorded
    return out


def names_entry(proto: onnx.ModelProto, roles: Mapping[str, str]) -> str | None:
    """Return ``netferry.names`` for a file whose nodes have no metadata: layers by node name, roles.

    A node without a name of its own cannot be told apart and is left out.
    """
    nodes = list(proto_nodes(proto))
    count = Counter(node.name for node in nodes)
    layers: dict[str, list[str]] = {}
    lies: dict[str, str] = {}
    for node in nodes:
        props = {p.key: p.value for p in node.metadata_props}
        if LAYER in props and node.name and count[node.name] == 1:
            layers[node.name] = [props[LAYER], props.get(LAYER_TYPE, node.op_type)]
            lies |= {node.name: props[LIES]} if LIES in props else {}
    out = {k: v for k, v in (("layers", layers), ("roles", dict(roles)), ("lies", lies)) if v}
    return _dump(out) if out else None


def proto_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a model, those of subgraphs and functions included."""
    return proto_nodes_in(proto.graph, *proto.functions)


def proto_nodes_in(*holders: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of graphs and functions, those of their branches and loops included."""
    pending: list[onnx.GraphProto | onnx.FunctionProto] = list(holders)
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _dump(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # names that were not UTF-8 in their file: escape all
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text


# reading -------------------------------------------------------------------------------------------------------


def restore(model: Model) -> None:
    """Take the ``netferry.*`` entries out of the graph's metadata and into the model's fields.

    What cannot be understood becomes a warning in ``model.notes``.
    """
    props = model.ir.metadata_props
    taken = {key: props.pop(key) for key in MODEL_KEYS if key in props}
    readers = {
        SOURCE: _take_source,
        LABELS: _take_labels,
        TASKS: _take_tasks,
        PREPROCESSING: _take_preprocessing,
        NAMES: _take_names,
    }
    _take_roles(model)
    for key, text in taken.items():
        reader = readers.get(key)
        if reader is None:
            continue
        try:
            reader(model, _load(text))
        except _FAULTS as error:
            _warn(model, f"metadata {key} is not understood and left out: {_reason(error)}")


def _load(text: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} characters, at most {MAX_BYTES}")

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in found}) != len(found):
            raise ValueError("a key appears twice")
        return dict(found)

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON number")

    value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
    if not isinstance(value, dict):
        raise ValueError("an object is expected")
    return value


def _take_source(model: Model, raw: dict[str, Any]) -> None:
    if not (isinstance(raw.get("format"), str) and _is_texts(raw.get("files", []))):
        raise ValueError("format is a string, files are strings")
    if not isinstance(raw.get("version", ""), str):
        raise ValueError("version is a string")
    kept = {key: raw[key] for key in ("format", "files", "version") if key in raw}
    kept["files"] = [Path(file.replace("\\", "/")).name for file in raw.get("files", [])]
    model.source.details["origin"] = kept


def _take_labels(model: Model, raw: dict[str, Any]) -> None:
    if not all(_is_texts(labels) for labels in raw.values()):
        raise ValueError("each output has a list of strings")
    outputs = {value.name for value in model.graph.outputs}
    for name, labels in raw.items():
        if name in outputs:
            model.labels[name] = labels
        else:
            _warn(model, f"labels for {quoted(name)}, which is no output, are left out")


def _take_tasks(model: Model, raw: dict[str, Any]) -> None:
    if not all(isinstance(task, str) and task in ("labels", "values") for task in raw.values()):
        raise ValueError("a task is labels or values")
    model.tasks.update({name: task for name, task in raw.items() if name in {v.name for v in model.graph.outputs}})


def _take_preprocessing(model: Model, raw: dict[str, Any]) -> None:
    inputs = {info.name for info in model.inputs}
    for name, fields in raw.items():
        if name not in inputs:
            _warn(model, f"preprocessing for {quoted(name)}, which is no input, is left out")
            continue
        _check_recipe(fields)
        model.preprocessing[name] = Preprocessing.from_dict(fields)


def _check_recipe(fields: Any) -> None:
    """What from_dict would accept by converting: strings for numbers, true for 1, endless sizes."""
    if not isinstance(fields, dict):
        raise ValueError("each input has an object")
    for key in ("size", "crop"):
        value = fields.get(key, [1, 1])
        if not isinstance(value, list) or not all(type(v) is int and 0 < v <= _MAX_SIDE for v in value):
            raise ValueError(f"{key} is two numbers from 1 to {_MAX_SIDE}")
    for key in ("mean", "scale"):
        value = fields.get(key, [])
        if not isinstance(value, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in value):
            raise ValueError(f"{key} is a list of numbers")
    image = fields.get("mean_image")
    if image is not None:
        shape = image["shape"]
        if len(shape) != 3 or not all(type(v) is int and 0 < v <= _MAX_SIDE for v in shape):
            raise ValueError("a mean image has shape C x H x W")


def _take_names(model: Model, raw: dict[str, Any]) -> None:
    layers, roles, lies = (raw.get(key, {}) for key in ("layers", "roles", "lies"))
    if not all(isinstance(entry, dict) for entry in (layers, roles, lies)) or not _is_texts(list(lies.values())):
        raise ValueError("layers, roles and lies are objects")
    if not all(_is_texts(pair) and len(pair) == 2 for pair in layers.values()):
        raise ValueError("each node has a layer name and a layer type")
    known = {role.value for role in Role}
    if not all(isinstance(role, str) and role in known for role in roles.values()):
        raise ValueError(f"a role is one of {', '.join(sorted(known))}")
    for node in all_nodes(model.ir):
        if node.name in layers and LAYER not in node.metadata_props:
            node.metadata_props[LAYER], node.metadata_props[LAYER_TYPE] = layers[node.name]
            if node.name in lies:
                node.metadata_props[LIES] = lies[node.name]
    for graph in all_graphs(model.ir):
        for name, value in graph.initializers.items():
            if name in roles:
                value.metadata_props.setdefault(ROLE, roles[name])


def _take_roles(model: Model) -> None:
    """Move the role from the tensor to the value that holds it, where the rest of netferry looks for it."""
    known = {role.value for role in Role}
    for graph in all_graphs(model.ir):
        for name, value in graph.initializers.items():
            recorded = value.metadata_props.pop(ROLE, None)
            if value.const_value is not None:
                recorded = value.const_value.metadata_props.pop(ROLE, recorded)
            if recorded in known:
                value.metadata_props[ROLE] = recorded
            elif recorded is not None:
                _warn(model, f"role {quoted(recorded)} of {quoted(name)} is unknown and left out")


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """All nodes of a model, those of subgraphs and functions included."""
    for graph in (model.graph, *model.functions.values()):
        yield from nodes_of(graph)


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and all subgraphs, those in functions included."""
    yield model.graph
    for graph in (model.graph, *model.functions.values()):
        yield from bodies_in(graph)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _reason(error: BaseException) -> str:
    text = error.reason if isinstance(error, NetferryError) else f"{error}"
    return quoted(text or type(error).__name__)[1:-1]


def _warn(model: Model, message: str) -> None:
    model.notes.append(Note("warning", message))
