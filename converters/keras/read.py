"""The Keras importer's entry: files to a model."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import netferry.converters.keras.layers
import netferry.converters.keras.operations  # noqa: F401 -- both register the readers
from netferry.converters.keras.archive import Content, open_content
from netferry.converters.keras.inputs import add_inputs, declared
from netferry.converters.keras.layer import Facts
from netferry.converters.keras.layout import KT, channels_first
from netferry.converters.keras.network import Network, flattened
from netferry.converters.keras.spec import Ref, Spec, parse_layer, refs_in
from netferry.converters.keras.weights import require
from netferry.converters.options import ReadOptions
from netferry.errors import MalformedFile, NetferryError, UnsupportedLayer, UsageError, quoted
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, layer_of, role_of
from netferry.schemas.learning import freeze_as_source
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Model, Note, Source


def read(path: Path, options: ReadOptions) -> Model:
    """Read a Keras model: ``path`` holds the architecture (``options.weights`` the weights, where they lie apart).

    Raises:
        NetferryError: with file and layer.
    """
    current = Path(path)
    try:
        with ExitStack() as stack:
            content = open_content(Path(path), options.limits, stack)
            other: Content | None = None
            if options.weights is not None:
                current = options.weights
                other = open_content(options.weights, options.limits, stack)
                content, other = _sorted(content, other)
                current = content.path
            return _convert(content, other, options)
    except NetferryError as error:
        raise error.at(file=current) from None


def _sorted(first: Content, second: Content) -> tuple[Content, Content]:
    """Architecture first, whichever way round the files were given."""
    if first.architecture is None:
        first, second = second, first
    if second.store is None:
        raise UsageError("the second file holds no weights", file=second.path)
    return first, second


def _convert(content: Content, other: Content | None, options: ReadOptions) -> Model:
    if content.architecture is None:
        raise MalformedFile(
            "the file holds weights but no architecture",
            file=content.path,
            hint="give the model's .json (or .keras, .h5) first and this file by --weights",
        )
    version = content.version or (other.version if other else None)
    backend = content.backend or (other.backend if other else None)
    raw = content.architecture
    if isinstance(raw, dict):
        version = version or (raw.get("keras_version") if isinstance(raw.get("keras_version"), str) else None)
    generation = generation_of(version, raw)
    spec = parse_layer(raw, generation, nesting=options.limits.nesting)
    if spec.layers is None:
        kind = spec.registered_name or spec.type
        why = "a subclassed model: its calls are Python code, the file does not hold them"
        raise UnsupportedLayer([(spec.name, kind, why)], file=content.path)
    notes: list[Note] = []
    store = other.store if other is not None else content.store
    arrays, missing = ({}, []) if store is None else store.bind(spec, notes)
    holder = other.path if other is not None else content.path
    require(missing, options.skip_missing, notes, holder)
    if backend is None and generation == 1 and _theano_ordered(raw):
        backend = "theano"
        notes.append(
            Note("assumed", "channels-first Keras 1 weights without a backend: written by Theano, kernels turned")
        )
    facts = Facts(generation, backend or "tensorflow", arrays, store is not None, options, notes, assets=content.assets)
    built = _build(spec, facts, options)
    details = dict(content.details) | {"backend": backend, "generation": generation}
    details["layers"] = dict(sorted(Counter(_types(spec)).items()))
    files = tuple(str(p.resolve()) for p in [*content.files, *(other.files if other else [])])
    model = Model(
        built[0],
        source=Source("keras", files, version, {k: v for k, v in details.items() if v is not None}),
        preprocessing=built[1],
        notes=[replace(n) for n in dict.fromkeys(notes)],
    )
    frozen = {value.name or "": layer for value, layer in facts.frozen.items() if value.is_initializer()}
    freeze_as_source(model, frozen, "trainable=False")
    return model


def generation_of(version: str | None, raw: Any) -> int:
    """Return 1, 2 or 3: from the version the file gives, else from its form."""
    head = (version or "").split(".", 1)[0]
    if head in ("1", "2", "3"):
        return int(head)
    text_forms = {"nb_filter", "border_mode", "dim_ordering", "output_dim", "subsample"}
    kinds = {"Convolution2D", "Convolution1D", "Merge", "MaxoutDense", "Highway", "TimeDistributedDense"}
    for layer in _raw_layers(raw):
        config = layer.get("config")
        keys = set(config) if isinstance(config, dict) else set()
        if "batch_shape" in keys or (isinstance(config, dict) and isinstance(config.get("dtype"), dict)):
            return 3
        kind = layer.get("class_name")
        if (isinstance(kind, str) and kind in kinds) or (keys & text_forms and kind != "Embedding"):
            return 1
    return 2


def _raw_layers(raw: Any, depth: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if isinstance(raw, dict) and depth <= 100:
        config = raw.get("config")
        layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
        for item in layers if isinstance(layers, list) else []:
            if isinstance(item, dict):
                found.append(item)
                found.extend(_raw_layers(item, depth + 1))
    return found


def _theano_ordered(raw: Any) -> bool:
    configs = [layer.get("config") for layer in _raw_layers(raw)]
    return any(isinstance(c, dict) and c.get("dim_ordering") == "th" for c in configs)


def _types(spec: Spec) -> list[str]:
    return [spec.type] if spec.layers is None else [kind for child in spec.layers for kind in _types(child)]


def _build(spec: Spec, facts: Facts, options: ReadOptions) -> tuple[ir.Model, dict[str, Any]]:
    b = Builder(spec.name)
    network = Network(facts)
    inputs, recipes = add_inputs(b, declared(spec, facts.notes, options.input_shapes), options)
    made = network.call(b, spec, list(inputs), {}, path="", prefix="")
    outputs = flattened(made)
    if not outputs or not all(isinstance(o, KT) for o in outputs):
        raise MalformedFile("the model has no outputs")
    for value, name in zip(outputs, output_names(spec, len(outputs)), strict=True):
        order = tuple(range(value.rank))
        if value.rank in (4, 5) and ("*" in options.outputs_as_nchw or name in options.outputs_as_nchw):
            order = channels_first(value.rank)
        b.output(value.to(b, order), name)
    for value, name in network.carried:
        b.output(value, name)
    _sweep(b.graph, facts.notes)
    model = ir.Model(b.graph, ir_version=CANONICAL_IR, producer_name="netferry")
    _keep_placeholders(b.graph, facts)
    return model, recipes


def _keep_placeholders(graph: ir.Graph, facts: Facts) -> None:
    """Import the placeholders' domain where some are left; forget those that no output needs.

    Keras 3 leaves operations that only computed a mask in the file, with no reader and no use.
    """
    left = {layer_of(node)[0] for node in graph if node.domain == PLACEHOLDER_DOMAIN}
    if left:
        graph.opset_imports[PLACEHOLDER_DOMAIN] = 1
    gone = {name for name, _, _ in facts.unknown} - left
    facts.unknown[:] = [row for row in facts.unknown if row[0] not in gone]
    facts.notes[:] = [n for n in facts.notes if n.layer not in gone or not n.message.startswith("placeholder")]


def _sweep(graph: ir.Graph, notes: list[Note]) -> None:
    """Remove nodes that nothing reads (a Flatten whose source was taken instead, a mask nobody wanted).

    State that no node ever read (Normalization's count) stays as long as its layer does: Keras counts it too.
    """
    idle = {n for n, v in graph.initializers.items() if role_of(v) == Role.STATE and not v.uses()}
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    layers = {layer_of(node)[0] for node in graph} if idle else set()
    for name, value in list(graph.initializers.items()):
        if name in idle and name.rpartition(".")[0] in layers:
            continue
        if not value.uses() and not value.is_graph_output():
            if role_of(value) != Role.CONSTANT:
                notes.append(Note("dropped", f"{quoted(name)} is not used by any output"))
            del graph.initializers[name]


def output_names(spec: Spec, count: int) -> list[str]:
    """Names of the outputs: those of the layers that make them, as Keras 2 names them."""
    if spec.outputs is None:
        last = spec.layers[-1] if spec.layers else spec
        names = [last.name]
    else:
        outputs = [spec.outputs] if isinstance(spec.outputs, Ref) else spec.outputs
        names = [ref.layer for ref in refs_in(outputs)]
    if len(names) != count:
        names = [f"{names[0]}_{i}" if i else names[0] for i in range(count)]
    if len(names) > 10_000:
        raise MalformedFile(f"{len(names)} outputs, the first {quoted(names[0])}")
    return names
