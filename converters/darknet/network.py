"""From sections to the graph: each section reads the one before it, weights come in the order of the sections."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from netferry.converters.darknet.boxes import Thresholds, decode
from netferry.converters.darknet.cfg import Section
from netferry.converters.darknet.registry import MOST_ELEMENTS, Head, Layer, registry
from netferry.converters.darknet.weights import WeightsFile
from netferry.converters.options import ReadOptions
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedLayer, UsageError, WeightsError, quoted
from netferry.schemas.graph import CANONICAL_IR, Builder, Dim, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Note
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.preprocessing import Preprocessing

RECURRENT = frozenset({"rnn", "gru", "lstm"})
_HEADS = frozenset({"yolo", "region", "detection"})
REGISTER = (
    "read them by a plug-in: --plugin FILE, with @netferry.converters.darknet.registry.layer(TYPE) (CONTRIBUTING)"
)
_WHY = "no reader for this section"
REFUSED = {
    "conv_lstm": "a convolutional LSTM keeps its state from picture to picture; AlexeyAB's fork alone has it",
    "Gaussian_yolo": "its boxes come with spreads, in an order that no cfg tells",
    "contrastive": "a loss between pictures of a batch, for training alone",
    "history": "frames of a video in the places of a batch",
    "reorg3d": "AlexeyAB's second reorg; [reorg] is Darknet's",
    "implicit": "YOLOR's learnt constants come in weights of another program",
}
"""sections that are known, and why they are not read"""


@dataclass
class Built:
    """The result of :func:`build`."""

    model: ir.Model
    preprocessing: dict[str, Preprocessing]
    notes: list[Note] = field(default_factory=list)
    layers: Counter[str] = field(default_factory=Counter)
    classes: dict[str, int] = field(default_factory=dict)
    """outputs that speak of classes without having one number for each, with how many classes there are"""


def build(
    net: Section,
    sections: list[Section],
    weights: WeightsFile | None,
    options: ReadOptions,
    folder: ModelFolder | None = None,
) -> Built:
    """Build the graph, with a dynamic batch.

    Args:
        folder: where the cfg lies, for files that it names.

    Raises:
        NetferryError: a section is impossible or unsupported, or its weights do not fit.
    """
    unknown = [s for s in sections if s.type not in registry]
    for i, section in enumerate(sections):
        section.name = f"layer_{i}"
    if unknown and (weights is not None or options.decode_boxes):
        # nobody can tell how many weights an unknown section has, so those behind it cannot be found
        raise UnsupportedLayer([(s.name, s.type, REFUSED.get(s.type, _WHY)) for s in unknown], hint=REGISTER)
    b = Builder("darknet")
    b.reserve(["data", "boxes", "scores", "classes", "images", *(s.name for s in sections)])
    dims = _input_dims(net, sections, options)
    x = b.input("data", dims, reserved=True)
    built = Built(
        ir.Model(b.graph, ir_version=CANONICAL_IR, producer_name="netferry"), _recipe(net, sections, dims, weights)
    )
    values: list[ir.Value] = []
    heads: list[Head] = []
    for i, section in enumerate(sections):
        built.layers[section.type] += 1
        one = Layer(i, section, net, values, weights, options.limits, built.notes, heads, folder)
        with b.layer(section.name, section.type):
            reader = registry.get(section.type)
            made = _placeholder(b, one, x) if reader is None else reader(b, one, x)
            if section.type != "cost" and made.producer() not in b.fresh:  # the layer stays visible by its name
                made = b.op("Identity", made)
            x = made
            if x.name is None:
                b.rename(x, section.name, reserved=True)
        one.check(shape_of(x)[1:])
        section.ignore("dontload")
        if unread := section.unread():
            built.notes.append(Note("ignored", f"settings that netferry does not know: {', '.join(unread)}", one.name))
        values.append(x)
    if weights is not None and weights.left:
        raise WeightsError(
            f"{weights.left} bytes are left over behind the weights of the last section",
            file=weights.path,
            hint="the weights belong to another cfg: check filters, classes and the number of sections",
        )
    if unknown:
        b.graph.opset_imports[PLACEHOLDER_DOMAIN] = 1
    _outputs(b, built, sections, values, heads, options)
    _drop_dead(b, built)
    return built


def _outputs(
    b: Builder,
    built: Built,
    sections: list[Section],
    values: list[ir.Value],
    heads: list[Head],
    options: ReadOptions,
) -> None:
    """The last section and all detection heads; or the boxes made of these."""
    if options.decode_boxes:
        thresholds = Thresholds(options.score_threshold, options.overlap)
        for name, value in decode(b, heads, thresholds).items():
            b.output(value, name, reserved=True)
        built.classes["classes"] = heads[0].classes
        return
    seen: set[ir.Value] = set()
    last = len(sections) - 1
    while last > 0 and sections[last].type == "cost":
        last -= 1
    for i, (section, value) in enumerate(zip(sections, values, strict=True)):
        if (i == last or section.type in _HEADS) and value not in seen:
            seen.add(value)
            b.output(value, None if value.name == section.name else section.name, reserved=True)
    for head in heads:
        built.classes[head.layer] = head.classes


def _drop_dead(b: Builder, built: Built) -> None:
    """Leave out what no output reads: Darknet computes such sections too, for nobody."""
    dead: dict[str, None] = {}
    for node in reversed(list(b.graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            dead[node.metadata_props.get("netferry.layer", node.name or "")] = None
            b.graph.remove(node, safe=True)
    for name in [n for n, v in b.graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        del b.graph.initializers[name]
    alive = {node.metadata_props.get("netferry.layer") for node in b.graph}
    for name in dead:
        if name not in alive:
            built.notes.append(Note("dropped", "no output reads this section", name))


def _input_dims(net: Section, sections: list[Section], options: ReadOptions) -> list[Dim]:
    height, width, channels = (net.int(key, 0, least=0) for key in ("height", "width", "channels"))
    inputs = net.int("inputs", 0, least=0)
    batch: Dim = options.batch or "batch"
    given = dict(options.input_shapes)
    shape = given.pop("data", None)
    if given:
        raise UsageError(f"the net has no input {quoted(next(iter(given)))}, its input is 'data'")
    if shape is not None:
        if len(shape) == 4:
            channels, height, width = shape[1:]
        elif len(shape) in (2, 3):
            channels, inputs = 0, shape[-1]
        else:
            raise UsageError("an input shape is batch, channels, height, width; or batch, inputs")
        for key, value in (("height", height), ("width", width)):
            net.settings[key] = str(value)  # anchors are measured on the net's size
    if height and width and channels:
        dims: list[Dim] = [batch, channels, height, width]
        if channels * height * width > MOST_ELEMENTS:
            raise LimitExceeded(f"an input of {channels} x {height} x {width} (at most 2^31 - 1 numbers)", layer="net")
        return dims
    if not inputs:
        raise MalformedFile(
            "[net] does not give height, width and channels, nor inputs",
            hint="say it: --input-shape data=1,3,224,224 (batch, channels, height, width)",
        )
    return ["time", batch, inputs] if any(s.type in RECURRENT for s in sections) else [batch, inputs]


def _recipe(
    net: Section, sections: list[Section], dims: list[Dim], weights: WeightsFile | None
) -> dict[str, Preprocessing]:
    """Darknet feeds RGB / 255: classifiers the centre of a resized picture, detectors all of it, letterboxed.

    AlexeyAB's fork stretches it instead, unless ``letter_box=1``.
    """
    letterbox = net.int("letter_box", 0) or weights is None or not weights.header.fork
    if len(dims) != 4 or dims[1] not in (1, 3):
        return {}
    size = (int(str(dims[2])), int(str(dims[3])))
    color = "RGB" if dims[1] == 3 else "GRAY"
    resize = "letterbox" if letterbox else "stretch"
    recipe = Preprocessing(color=color, size=size, scale=(1 / 255,), resize=resize, interpolation="aligned")
    if not any(s.type in _HEADS for s in sections):
        recipe = recipe.with_(resize="shortest", crop=size)
    return {"data": recipe}


def _placeholder(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """A node that keeps the type and settings of a section that nobody can read; its shape is taken to stay."""
    settings = ", ".join(f"{k}={v}" for k, v in l.section.settings.items())
    l.section.ignore(*l.section.settings)
    known = REFUSED.get(l.type, _WHY)
    why = f"{known}; settings: {quoted(settings, 160)[1:-1]}" if settings else known
    l.note("warning", f"placeholder for a section of type {quoted(l.type)}: {why}")
    return b.op(
        l.type,
        x,
        domain=PLACEHOLDER_DOMAIN,
        types=[(ir.DataType.FLOAT, shape_of(x))],
        metadata={"netferry.reason": why},
        settings=settings,
    )
