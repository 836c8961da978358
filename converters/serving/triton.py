"""Triton's model repository (https://github.com/triton-inference-server/server, docs/user_guide/model_repository.md and
model_configuration.md): ``NAME/config.pbtxt``, ``NAME/labels.txt``, ``NAME/1/model.onnx``; with preprocessing also
``NAME_preprocess`` and the ensemble of both, ``NAME_ensemble``, which takes uint8 pictures.
"""

from __future__ import annotations

from pathlib import Path

from netferry.converters.serving.contents import Contents, Unit, label_lines, signature
from netferry.schemas.model import TensorInfo

TYPES = {
    "float": "TYPE_FP32", "double": "TYPE_FP64", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16", "bool": "TYPE_BOOL",
    "string": "TYPE_STRING", **{f"{u}int{n}": f"TYPE_{u.upper()}INT{n}" for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
MAX_BATCH = 32


def units(contents: Contents) -> list[Unit]:
    """Return the folders of the repository."""
    limit = int(contents.options.get("max_batch") or MAX_BATCH) if contents.batched else 0
    labels: dict[str, bytes | Path] = {}
    files_of: dict[str, str] = {}
    for output in contents.outputs:
        if output.name in contents.labels:
            name = "labels.txt" if not labels else f"labels_{len(labels)}.txt"
            labels[name], files_of[output.name] = label_lines(contents.labels[output.name]), name
    config = _config(contents.name, contents.inputs, contents.outputs, limit, files_of, runs='backend: "onnxruntime"')
    made = [_unit(contents.name, config, contents.files, labels)]
    if contents.picture is not None:
        made = [*_pictures(contents, limit), *made]
        made.append(_unit(f"{contents.name}_ensemble", _ensemble(contents, limit), (), {}))
    return made


def _unit(name: str, config: str, files: tuple[Path, ...], more: dict[str, bytes | Path]) -> Unit:
    kept: dict[str, bytes | Path] = {file.name: file for file in files}
    # an ensemble's version is a folder without a model, which neither git nor object stores can hold empty
    return Unit(name, {"config.pbtxt": config.encode(), **more}, kept or {".keep": b""})


def _pictures(contents: Contents, limit: int) -> list[Unit]:
    picture = contents.picture
    assert picture is not None
    name = f"{contents.name}_preprocess"
    config = _config(name, [picture.input], [picture.output], limit, {}, runs='backend: "onnxruntime"')
    return [_unit(name, config, picture.files, {})]


def _ensemble(contents: Contents, limit: int) -> str:
    picture = contents.picture
    assert picture is not None
    outside = [picture.input, *(i for i in contents.inputs if i.name != picture.output.name)]
    head = _config(f"{contents.name}_ensemble", outside, contents.outputs, limit, {}, runs='platform: "ensemble"')
    inner = "netferry_prepared"
    steps = [
        _step(
            f"{contents.name}_preprocess", [(picture.input.name, picture.input.name)], [(picture.output.name, inner)]
        ),
        _step(
            contents.name,
            [(i.name, inner if i.name == picture.output.name else i.name) for i in contents.inputs],
            [(o.name, o.name) for o in contents.outputs],
        ),
    ]
    return head + "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}\n"


def _step(model: str, inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> str:
    maps = [f"      {kind} {{ key: {_text(k)} value: {_text(v)} }}\n"
            for kind, pairs in (("input_map", inputs), ("output_map", outputs)) for k, v in pairs]  # fmt: skip
    return f"    {{\n      model_name: {_text(model)}\n      model_version: -1\n{''.join(maps)}    }}"


def _config(
    name: str,
    inputs: list[TensorInfo],
    outputs: list[TensorInfo],
    limit: int,
    labels: dict[str, str],
    *,
    runs: str,
) -> str:
    lines = [f"name: {_text(name)}", runs, f"max_batch_size: {limit}"]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        items = [
            _tensor(t, dtype, dims, limit, labels.get(t.name)) for t, dtype, dims in signature(tensors, TYPES, "Triton")
        ]
        lines.append(f"{kind} [\n" + ",\n".join(items) + "\n]")
    if limit and "ensemble" not in runs:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def _tensor(tensor: TensorInfo, dtype: str, dims: list[int], limit: int, labels: str | None) -> str:
    if limit:
        dims = dims[1:]
    rows = [f"    name: {_text(tensor.name)}", f"    data_type: {dtype}"]
    if dims:
        rows.append(f"    dims: [ {', '.join(map(str, dims))} ]")
    else:  # Triton has no tensors without dimensions beside the batch
        rows.append("    dims: [ 1 ]\n    reshape: { shape: [ ] }")
    if labels is not None:
        rows.append(f"    label_filename: {_text(labels)}")
    return "  {\n" + "\n".join(rows) + "\n  }"


def _text(value: str) -> str:
    """A string of protobuf's text format; names come from files."""
    safe = "".join(
        chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else f"\\{c:03o}" for c in value.encode("utf-8", "replace")
    )
    return f'"{safe}"'
