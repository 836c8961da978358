"""Formats that reach netferry as ONNX files which others make: TensorFlow by tf2onnx, PyTorch by its own exporter.

The one module beside the table of formats that knows several of them: it hands the made file on to the ONNX reader.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netferry.converters.onnx.read import read as read_onnx
from netferry.converters.options import ReadOptions
from netferry.converters.pytorch.export import export as export_program
from netferry.converters.tensorflow.export import export
from netferry.converters.tensorflow.files import files_of
from netferry.errors import NetferryError
from netferry.schemas.ir import ir
from netferry.schemas.learning import freeze_as_source
from netferry.schemas.metadata import all_graphs, all_nodes
from netferry.schemas.model import Model, Source
from netferry.schemas.publish import temporary_folder
from netferry.schemas.tensors import array_of, array_tensor


def read(path: Path, options: ReadOptions) -> Model:
    """Read a TensorFlow model (SavedModel folder, frozen graph, TFLite) through tf2onnx and the ONNX reader.

    Raises:
        NetferryError: as :func:`netferry.converters.tensorflow.export.export` and the ONNX reader.
    """
    path = Path(path)
    with temporary_folder() as folder:
        try:
            made = export(path, options, Path(folder))
            model = read_onnx(made.file, options)
        except NetferryError as error:
            if error.file is not None and Path(error.file).is_relative_to(folder):
                error.file = str(path)  # the user knows that name
            raise error.at(file=path) from None
        keep_weights(model)
    version = f"{made.tensorflow} (through tf2onnx {made.tf2onnx})"
    details = {"kind": made.kind, "tf2onnx": made.tf2onnx}
    files = tuple(str(file.resolve()) for file in files_of(path))
    model.source = Source("tensorflow", files, version, details)
    model.notes = [replace(note) for note in dict.fromkeys(model.notes)]
    return model


def read_program(path: Path, options: ReadOptions) -> Model:
    """Read a program of torch.export (.pt2) through torch's own exporter and the ONNX reader.

    Raises:
        NetferryError: as :func:`netferry.converters.pytorch.export.export` and the ONNX reader.
    """
    path = Path(path)
    with temporary_folder() as folder:
        try:
            made = export_program(path, options, Path(folder))
            model = read_onnx(made.file, options)
        except NetferryError as error:
            if error.file is not None and Path(error.file).is_relative_to(folder):
                error.file = str(path)
            raise error.at(file=path) from None
        keep_weights(model)
    model.source = Source("pytorch", (str(path.resolve()),), made.torch, {"kind": "torch.export program"})
    freeze_as_source(model, made.frozen, "requires_grad=False")
    return model


def keep_weights(model: Model) -> None:
    """Take the weights into memory: the file that they lie in is about to go."""
    for graph in all_graphs(model.ir):
        for name, value in graph.initializers.items():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _copied(value.const_value, name)
    for node in all_nodes(model.ir):
        for attribute in list(node.attributes.values()):
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.as_tensor(), ir.ExternalTensor):
                tensor = _copied(attribute.as_tensor(), attribute.as_tensor().name)
                node.attributes.add(ir.AttrTensor(attribute.name, tensor, attribute.doc_string))


def _copied(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    array = array_of(tensor)
    assert array is not None
    return array_tensor(array, name)
