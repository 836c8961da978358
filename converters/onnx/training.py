"""Training information, which onnx_ir does not know: kept as it was and put back where it still fits the model."""

from __future__ import annotations

import onnx

from netferry.converters.onnx.external import DataFiles
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note

_KEPT, _OPSETS = "netferry.training_info", "netferry.training_opsets"


def keep_training(model: ir.Model, proto: onnx.ModelProto, data: DataFiles) -> None:
    """Hang the training information of ``proto`` on the graph; weights that it keeps in data files are read.

    Raises:
        NetferryError: as :class:`DataFiles`, for a data file that cannot be used.
    """
    if not proto.training_info:
        return
    for info in proto.training_info:
        for graph in (info.initialization, info.algorithm):
            for tensor in graph.initializer:
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    there = ir.serde.deserialize_tensor(tensor)
                    assert isinstance(there, ir.ExternalTensor)
                    placed = data.tensor(there)
                    tensor.raw_data = placed.tobytes()
                    if isinstance(placed, ir.ExternalTensor):
                        placed.release()
                    tensor.ClearField("external_data")
                    tensor.ClearField("data_location")
    model.graph.meta[_KEPT] = [info.SerializeToString() for info in proto.training_info]
    model.graph.meta[_OPSETS] = _opsets(proto)


def put_training_back(model: Model, proto: onnx.ModelProto) -> None:
    """Write what :func:`keep_training` kept into the message of the same model.

    It is left out, with a note, where it no longer fits: its graphs speak the opsets that the file had, and bind
    values to initializers by name.
    """
    kept = model.graph.meta.get(_KEPT)
    if not kept:
        return
    infos = [onnx.TrainingInfoProto.FromString(data) for data in kept]
    why = "the opset is another now" if model.graph.meta.get(_OPSETS) != _opsets(proto) else _loose_end(infos, proto)
    if why is None:
        proto.training_info.extend(infos)
    else:
        note = Note("dropped", f"training information: {why}")
        if note not in model.notes:
            model.notes.append(note)


def _loose_end(infos: list[onnx.TrainingInfoProto], proto: onnx.ModelProto) -> str | None:
    held = {t.name for t in proto.graph.initializer} | {t.values.name for t in proto.graph.sparse_initializer}
    for info in infos:
        held |= {t.name for t in info.algorithm.initializer}
        for binding in (*info.initialization_binding, *info.update_binding):
            if binding.key not in held:
                return f"it sets {binding.key!r}, which is gone"
    return None


def _opsets(proto: onnx.ModelProto) -> list[tuple[str, int]]:
    return sorted((o.domain, o.version) for o in proto.opset_import)
