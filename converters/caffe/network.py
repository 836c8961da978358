"""From layers to the graph: TEST-phase net, in-place tops to single assignment, weights bound by layer name."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from netferry.converters.caffe.blobs import Blob
from netferry.converters.caffe.deploy import Net
from netferry.converters.caffe.inputs import NetInput
from netferry.converters.caffe.prototxt import Message
from netferry.converters.caffe.registry import FILLED, Declined, Layer, NeedsFixedBatch, reader_key, registry
from netferry.converters.caffe.wire import StoredLayer
from netferry.converters.options import ReadOptions
from netferry.errors import MalformedFile, NetferryError, UnsupportedLayer, WeightsError, quoted
from netferry.schemas.graph import CANONICAL_IR, Builder, Dim, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Note
from netferry.schemas.preprocessing import Preprocessing

_SHARING = ("Split", "Flatten", "Reshape", "Concat", "Slice")
"""Layers whose top is the bottom's memory in Caffe (Concat and Slice with a single bottom or top)."""


@dataclass
class Built:
    """The result of :func:`build`."""

    model: ir.Model
    preprocessing: dict[str, Preprocessing]
    notes: list[Note]
    unknown: list[tuple[str, str, str]]
    layers: Counter[str]
    frozen: dict[ir.Value, str]
    """parameters that do not learn, with their layers"""


def build(net: Net, stored: dict[str, StoredLayer] | None, options: ReadOptions) -> Built:
    """Build the graph, with a dynamic batch where every layer allows it.

    Raises:
        NetferryError: a layer is impossible, unsupported, or its weights do not fit.
    """
    try:
        return _Assembly(net, stored, options).run()
    except NeedsFixedBatch as reason:
        # with a batch of the caller's, only axes that are not the batch (time) are still dynamic here
        fixed = [NetInput(i.name, i.layer, i.shape, i.preprocessing, _static(i)) for i in net.inputs]
        note = Note("assumed", f"the batch is fixed as the prototxt declares it: {reason.reason}", reason.layer)
        return _Assembly(Net(net.name, net.layers, fixed, [*net.notes, note]), stored, options).run()


def _static(item: NetInput) -> list[Dim]:
    return [d if isinstance(d, int) else s for d, s in zip(item.dims, item.shape, strict=True)]


REGISTER = "read them by a plug-in: --plugin FILE, with @netferry.converters.caffe.registry.layer(TYPE) (CONTRIBUTING)"
"""Advice that goes with layers nobody can read."""


def _shortened(settings: dict[str, object]) -> str:
    """Settings of a layer as one printable line of moderate length."""
    return quoted(json.dumps(settings, sort_keys=True, ensure_ascii=False), 160)[1:-1]


def _is_zero(text: str) -> bool:
    """Whether a number of a prototxt is zero: ``0``, ``0.``, ``0f``."""
    try:
        return float(text.rstrip("fF")) == 0
    except ValueError:
        return False


def _why_unread(kind: str) -> str:
    return "runs Python code; not read by design" if kind == "Python" else "no reader for this type"


class _Assembly:
    """One pass over the layers."""

    def __init__(self, net: Net, stored: dict[str, StoredLayer] | None, options: ReadOptions) -> None:
        self.net, self.options = net, options
        self.has_weights = stored is not None
        self.stored = stored or {}
        self.notes = list(net.notes)
        self.unknown: list[tuple[str, str, str]] = []
        self.kinds: Counter[str] = Counter({"Input": len(net.inputs)})
        self.builder = Builder(net.name)
        self.blobs: dict[str, ir.Value] = {}
        self.given = {i.name for i in net.inputs}
        self.shared_values: dict[str, tuple[ir.Value, str]] = {}
        self.shared_blobs = self._named_blobs()
        self.frozen: dict[ir.Value, str] = {}
        self.names: Counter[str] = Counter()
        self.batch = next((i.shape[i.dims.index("batch")] for i in net.inputs if "batch" in i.dims), None)
        self.memory: dict[str, set[str]] = {}
        self.last_read = {x: i for i, m in enumerate(net.layers) for x in m.texts("bottom")}

    def _named_blobs(self) -> dict[str, Blob]:
        """Blobs of parameters that layers share by name: all are copied into one memory, in the file's order."""
        layers: dict[str, Message] = {}
        for message in self.net.layers:
            layers.setdefault(message.text("name"), message)
        found: dict[str, Blob] = {}
        for name, stored in self.stored.items():
            specs = layers[name].messages("param") if name in layers else []
            found |= {s.text("name"): blob for s, blob in zip(specs, stored.blobs, strict=False) if s.text("name")}
        return found

    def run(self) -> Built:
        b = self.builder
        final = self._last_writers()
        b.reserve([*(i.name for i in self.net.inputs), *final])
        for item in self.net.inputs:
            self.blobs[item.name] = b.input(item.name, item.dims, reserved=True)
        read: set[int] = set()
        produced: dict[str, int] = {}
        for i, message in enumerate(self.net.layers):
            for bottom in message.texts("bottom"):
                if bottom in produced:
                    read.add(produced[bottom])
            self._layer(i, message, final)
            for j, top in enumerate(message.texts("top")):
                produced[top] = i * 65536 + j
        outputs = [top for top, at in produced.items() if at not in read and top in self.blobs]
        self._check_weights()
        if not outputs:
            raise MalformedFile("the net has no outputs")
        called: dict[str, list[tuple[ir.Value, str | None]]] = {}
        for node in b.graph:
            for value in node.outputs:
                called.setdefault(value.name or "", []).append((value, node.name))
        for top in sorted(outputs, key=lambda t: produced[t]):
            for other, maker in called.get(top, ()):  # the last writer was not the one that changed the blob last
                if other is not self.blobs[top]:
                    b.rename(other, f"{top}@{maker}")
            value = self.blobs[top]
            if top not in self.given:
                b.output(value, top, reserved=True)
            else:  # changed in place, or passed through: the name stays that of the input
                b.output(value, f"{top}@output" if value.is_graph_input() else value.name)
        model = ir.Model(b.graph, ir_version=CANONICAL_IR, producer_name="netferry")
        if self.unknown:
            b.graph.opset_imports[PLACEHOLDER_DOMAIN] = 1
        recipes = {i.name: i.preprocessing for i in self.net.inputs if i.preprocessing is not None}
        return Built(model, recipes, self.notes, self.unknown, self.kinds, self.frozen)

    def _last_writers(self) -> dict[str, int]:
        """For each blob the last layer that writes it: that one's value gets the blob's name."""
        return {top: i for i, m in enumerate(self.net.layers) for top in m.texts("top")}

    def _layer(self, index: int, message: Message, final: dict[str, int]) -> None:
        kind, given = message.text("type"), message.text("name")
        self.names[given] += 1
        name = given if self.names[given] == 1 else f"{given}_{self.names[given] - 1}"
        self.kinds[kind] += 1
        bottoms, tops = message.texts("bottom"), message.texts("top")
        for bottom in bottoms:
            if bottom not in self.blobs:
                raise MalformedFile(f"bottom {quoted(bottom)} is not a blob that an earlier layer makes", layer=name)
        if len(set(tops)) < len(tops):
            raise MalformedFile(f"top {quoted(Counter(tops).most_common(1)[0][0])} is made twice", layer=name)
        for top in tops:
            if top in self.given and top not in bottoms:
                raise MalformedFile(f"top {quoted(top)} is an input of the net already", layer=name)
        stored = self.stored.get(given) if self.names[given] == 1 else None
        specs = message.messages("param")
        layer = Layer(
            name=name,
            type=kind,
            message=message,
            bottoms=bottoms,
            tops=tops,
            blobs=stored.blobs if stored else [],
            shared=[s.text("name") or None for s in specs],
            share_modes=[s.text("share_mode") for s in specs],
            has_weights_file=self.has_weights,
            batch=self.batch,
            notes=self.notes,
            shared_blobs=self.shared_blobs,
            shared_values=self.shared_values,
            still={j for j, spec in enumerate(specs) if _is_zero(spec.text("lr_mult"))},
            frozen=self.frozen,
        )
        values = [self.blobs[b] for b in bottoms]
        with self.builder.layer(name, kind):
            made = self._read(layer, values)
            for top, value in zip(tops, made, strict=True):
                mine = value.producer() is not None and value.producer() in self.builder.fresh
                if mine and value.name is None:
                    if final[top] == index and top not in self.given:  # in place on an input, whose name it is
                        self.builder.rename(value, top, reserved=True)
                    else:
                        self.builder.rename(value, f"{top}@{name}")
                self.blobs[top] = value
                self._remember(index, layer, top)
        layer.check_blobs(skip_missing=self.options.skip_missing)
        unread = [n for p in layer.params for n in p.unread()]
        if unread:
            self.notes.append(Note("ignored", f"settings that netferry does not know: {', '.join(unread)}", name))

    def _remember(self, index: int, layer: Layer, top: str) -> None:
        """Follow Caffe's memory: a layer in place also changes every other blob that lies in the same memory.

        Split, Flatten and Reshape do not copy, so blobs on both sides share what an in-place layer overwrites.
        """
        lone = len(layer.bottoms) == 1 and (layer.type != "Slice" or len(layer.tops) == 1)
        if top in layer.bottoms:
            for other in sorted(self.memory.get(top, ())):
                if other == top:
                    continue
                if self.blobs[other].name == other:  # the name is for what the memory holds in the end
                    self.builder.rename(self.blobs[other], f"{other}@{other}")
                if self.last_read.get(other, len(self.net.layers)) > index:
                    self.blobs[other] = self._reshaped(layer, self.blobs[top], self.blobs[other])
            return
        self.memory.get(top, set()).discard(top)
        self.memory[top] = (
            self.memory.setdefault(layer.bottoms[0], {layer.bottoms[0]}) if lone and layer.type in _SHARING else set()
        )
        self.memory[top].add(top)

    def _reshaped(self, layer: Layer, value: ir.Value, like: ir.Value) -> ir.Value:
        shape, wanted = shape_of(value), shape_of(like)
        if shape == wanted:
            return value
        if any(not isinstance(d, int) for d in wanted[1:]) or (
            not isinstance(wanted[0], int) and wanted[:1] != shape[:1]
        ):
            raise NeedsFixedBatch("a layer in place on a reshaped blob", layer=layer.name)
        return self.builder.reshape(value, [d if isinstance(d, int) else 0 for d in wanted])

    def _read(self, layer: Layer, values: list[ir.Value]) -> tuple[ir.Value, ...]:
        reader = registry.get(reader_key(layer.message))
        if reader is None:
            return self._placeholder(layer, values, _why_unread(layer.type))
        try:
            made = reader(self.builder, layer, *values)
        except Declined as reason:
            return self._placeholder(layer, values, reason.reason)
        except NeedsFixedBatch as error:
            raise error.at(layer=layer.name) from None
        except NetferryError as error:
            if self.unknown:  # shapes after a placeholder are only assumed: the unknown layers are the reason
                raise UnsupportedLayer(self._unread(), hint=REGISTER) from None
            raise error.at(layer=layer.name) from None
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself failed
                raise MalformedFile(f"{layer.type} does not take {len(values)} bottoms", layer=layer.name) from None
            raise
        results = (made,) if isinstance(made, ir.Value) else tuple(made)
        if len(results) < len(layer.tops):
            raise MalformedFile(f"{layer.type} has {len(results)} tops, not {len(layer.tops)}", layer=layer.name)
        return results[: len(layer.tops)]

    def _unread(self) -> list[tuple[str, str, str]]:
        """(name, type, why) of every layer that cannot be read: those met so far, then those without a reader."""
        rows = list(self.unknown)
        for message in self.net.layers:
            name, kind = message.text("name"), message.text("type")
            if kind not in registry and kind != "Python" and all(name != n for n, _, _ in rows):
                rows.append((name, kind, _why_unread(kind)))
        return rows

    def _placeholder(self, layer: Layer, values: list[ir.Value], why: str) -> tuple[ir.Value, ...]:
        """A node that keeps type, settings, weights and connections of a layer that nobody can read.

        Its tops are taken to have the shape of the first bottom; what replaces it may say otherwise.
        """
        b = self.builder
        settings = {k: v for k, v in layer.message.as_dict().items() if k not in ("name", "type", "bottom", "top")}
        if settings:
            why = f"{why}; settings: {_shortened(settings)}"
        if layer.blobs:
            why = f"{why}; weights: {', '.join(str(blob.shape) for blob in layer.blobs[:4])}"
        self.unknown.append((layer.name, layer.type, why))
        weights = [
            b.param(f"blob{i}", blob.make(blob.shape), role=Role.LEARNABLE) for i, blob in enumerate(layer.blobs)
        ]
        shape = shape_of(values[0]) if values else ()
        made = b.op(
            layer.type or "Unknown",
            *values,
            *weights,
            domain=PLACEHOLDER_DOMAIN,
            outputs=max(len(layer.tops), 1),
            types=[(ir.DataType.FLOAT, shape)] * max(len(layer.tops), 1),
            metadata={"netferry.reason": why},
            settings=json.dumps(settings, sort_keys=True),
        )
        self.notes.append(Note("warning", f"placeholder for a layer of type {quoted(layer.type)}: {why}", layer.name))
        return ((made,) if isinstance(made, ir.Value) else made)[: len(layer.tops)]

    def _check_weights(self) -> None:
        """Name the layers of the weights file that the net lacks: legal in Caffe, worth knowing.

        Raises:
            WeightsError: the net lacks all of them and needs some. Caffe would go on with what the fillers say; that is
                never meant.
        """
        names = {m.text("name") for m in self.net.layers} | {i.layer for i in self.net.inputs}
        held = [stored.name for stored in self.stored.values() if stored.blobs]
        foreign = [name for name in held if name not in names]
        filled = any(note.message.endswith(FILLED) for note in self.notes)
        if filled and len(foreign) == len(held) and not self.options.skip_missing:
            raise WeightsError(
                f"the net has none of the {len(held)} layers in the weights file, the first of which is "
                f"{quoted(held[0])}"
                if held
                else "the weights file holds no weights",
                hint="weights go to layers by name; --skip-missing goes on without them",
            )
        for name in foreign:
            self.notes.append(Note("ignored", "the weights file has this layer, the net does not", name))
