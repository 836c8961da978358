"""Preprocessing inside the graph: decoded pictures (uint8, N x H x W x C) in; standard operators resize, normalise.

The steps are those of :func:`netferry.converters.preprocessing.prepare`, put in front of the network.
"""

from __future__ import annotations

from netferry.converters.passes.opset import to_opset
from netferry.converters.preprocessing import prepare
from netferry.converters.waveform import add_front_end, sound_input
from netferry.errors import UnsupportedOption, UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note
from netferry.schemas.preprocessing import COLORS, Preprocessing
from netferry.schemas.surgery import InsertionBuilder

LEAST_OPSET = 18
"""Resize with ``antialias``: https://onnx.ai/onnx/operators/onnx__Resize.html"""


def embed_preprocessing(model: Model) -> Note:
    """Let the picture input take decoded pictures; its recipe becomes nodes, and the model's recipe a plain one.

    A sound network whose file says how log-mel patches are made takes a waveform instead.

    The input keeps its name; pictures are RGB (grey where the network's are grey) of any size, unless the recipe does
    not resize. The opset is raised to 18 where it is lower.

    Raises:
        UsageError: there is no picture input, or no recipe for it.
        UnsupportedOption: an interpolation that ONNX does not have.
    """
    heard = sound_input(model)
    if heard is not None:
        if heard.inside:
            raise UsageError(f"input {quoted(heard.name)} takes a waveform already")
        add_front_end(model, heard.recipe)
        return Note("folded", f"front end embedded: {quoted(model.inputs[0].name)} takes a waveform")
    found = next((v for v in model.graph.inputs if v.name in model.preprocessing), None)
    if found is None or found.shape is None or len(found.shape) != 4 or found.name is None:
        raise UsageError(
            "the model carries no preprocessing that could be embedded",
            hint="--mean, --scale, --channel-order, --size … say what it is",
        )
    if found.dtype == ir.DataType.UINT8:
        raise UsageError(f"input {quoted(found.name)} takes uint8 pictures already")
    recipe = model.preprocessing[found.name]
    if recipe.resize == "none" and recipe.crop is not None:
        raise UnsupportedOption("a crop of pictures that are not resized cannot be embedded", hint="give --size too")
    if (recipe.resize in ("letterbox", "shortest") or recipe.crop is not None) and _gives_boxes(model):
        how = "a crop" if recipe.crop is not None else recipe.resize
        raise UnsupportedOption(
            f"its boxes are parts of the picture after {how}; where that is done inside, nobody can bring them back",
            hint="--resize stretch, or leave the preprocessing outside: netferry predict brings them back",
        )
    name = found.name
    if model.opset < LEAST_OPSET:
        model.notes.extend(to_opset(model, LEAST_OPSET))
        found = next(v for v in model.graph.inputs if v.name == name)
    _rewrite(model, found, recipe)
    plain = "GRAY" if recipe.color == "GRAY" else "RGB"
    model.preprocessing[name] = Preprocessing(color=plain, resize="none", layout="NHWC")
    return Note("folded", f"preprocessing embedded: {quoted(name)} takes uint8 pictures, N x H x W x {COLORS[plain]}")


def _gives_boxes(model: Model) -> bool:
    return {"boxes", "scores", "classes", "images"} <= {v.name for v in model.graph.outputs}


def _rewrite(model: Model, old: ir.Value, recipe: Preprocessing) -> None:
    graph, name = model.graph, old.name
    assert old.shape is not None
    dims = [d if isinstance(d, int) else None for d in old.shape]
    size = (dims[1], dims[2]) if recipe.layout == "NHWC" else (dims[2], dims[3])
    height, width = size if recipe.resize == "none" else (None, None)
    b = InsertionBuilder(graph, before=next(iter(graph)))
    shape = ir.Shape([old.shape[0], height or "height", width or "width", COLORS[recipe.color]])
    old.name = b.unique(f"{name}/preprocessed")
    new = ir.Value(name=name, type=ir.TensorType(ir.DataType.UINT8), shape=shape)
    with b.layer("preprocessing", "Preprocessing"):
        x = prepare(b, new, recipe, size, old.dtype or ir.DataType.FLOAT)
    graph.inputs[list(graph.inputs).index(old)] = new
    old.replace_all_uses_with(x, replace_graph_outputs=True)
