"""A sound network's front end as standard operators: a waveform of any length in, log-mel patches to the network.

The transform is a product with a constant matrix, and runs in double precision: next to a loud tone a silent band is
all rounding error in single precision, and the logarithm shows it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from netferry.errors import UsageError, quoted
from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.sound import SOUND_KEY, SoundRecipe, fourier, mel_matrix, recipes_of
from netferry.schemas.surgery import InsertionBuilder

FRONT_END = "front_end"
"""the layer that makes patches"""
DOUBLE, FLOAT = int(ir.DataType.DOUBLE), int(ir.DataType.FLOAT)


def front_end_model(recipe: SoundRecipe, *, waveform: str = "waveform", patches: str = "patches") -> Model:
    """Return the front end alone: a float32 waveform (samples) in -1..1, patches (N x patch x bands) out."""
    b = Builder(recipe.name)
    x = b.input(waveform, ("samples",))
    with b.layer(FRONT_END, "LogMelPatches"):
        y = log_mel_patches(b, x, recipe)
    b.output(y, patches)
    b.finish()
    model = Model(ir.Model(b.graph, ir_version=CANONICAL_IR), source=Source("onnx"))
    record(model, waveform, recipe)
    return model


@dataclass(frozen=True)
class SoundInput:
    """The input of a network that hears; ``inside``: it takes a waveform and makes the patches itself."""

    name: str
    recipe: SoundRecipe
    inside: bool


def sound_input(model: Model) -> SoundInput | None:
    """Return the input of a sound network, by the model's metadata; None where there is none."""
    recipes = recipes_of(model.ir.metadata_props.get(SOUND_KEY))
    for info in model.inputs:
        if info.name in recipes and info.shape is not None:
            return SoundInput(info.name, recipes[info.name], len(info.shape) == 1)
    return None


def add_front_end(model: Model, recipe: SoundRecipe, *, waveform: str = "waveform") -> None:
    """Let a network read a waveform instead of patches, in place; the patches become its batch.

    Args:
        model: a network with one input of patches: N x patch x bands, with a channel of 1 before or after those.
        recipe: the front end.
        waveform: name of the new input, float32 samples in -1..1 at the recipe's rate, mono.

    Raises:
        UsageError: the network has another input, or a fixed batch.
    """
    if len(model.inputs) != 1:
        raise UsageError(f"a front end needs a network with one input, this has {len(model.inputs)}")
    old = next(v for v in model.graph.inputs if v.name == model.inputs[0].name)
    info = model.inputs[0]
    dims = tuple(info.shape or ())
    inner = (recipe.patch, recipe.bands)
    if dims[1:] not in (inner, (1, *inner), (*inner, 1)) or info.dtype != "float":
        raise UsageError(
            f"input {quoted(info.name)} is {info.dtype}{list(dims)}, the front end {recipe.name} makes patches of "
            f"{recipe.patch} frames x {recipe.bands} bands"
        )
    if isinstance(dims[0], int):
        raise UsageError(
            f"input {quoted(info.name)} has a fixed batch of {dims[0]}: sounds give as many as they are long"
        )
    first = next(iter(model.graph))
    b = InsertionBuilder(model.graph, before=first)
    name = b.unique(waveform)
    x = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["samples"]))
    model.graph.inputs.insert(model.graph.inputs.index(old), x)
    with b.layer(FRONT_END, "LogMelPatches"):
        patches = log_mel_patches(b, x, recipe)
        patches = b.reshape(patches, [-1, *(d for d in dims[1:] if isinstance(d, int))])
        assert patches.shape is not None
        patches.shape = ir.Shape(list(dims))
    old.replace_all_uses_with(patches, replace_graph_outputs=True)
    model.graph.inputs.remove(old)
    b.finish()
    model.preprocessing.pop(info.name, None)
    record(model, name, recipe)


def remove_front_end(model: Model) -> tuple[SoundRecipe, str] | None:
    """Take the front end off again, in place, so that the network reads log-mel patches.

    Returns:
        The recipe and the name of the waveform input (empty where the network read patches anyway); None where the
        network does not say that it reads sounds.

    Raises:
        UsageError: it reads a waveform, but not through a front end that netferry has put there.
    """
    from netferry.schemas.subnetwork import cut

    heard = sound_input(model)
    if heard is None:
        return None
    recipe = heard.recipe
    if not heard.inside:
        return recipe, ""
    row = next((r for r in model.layers if r.name == FRONT_END), None)
    if row is None or len(row.outputs) != 1:
        raise UsageError(f"the front end behind input {quoted(heard.name)} is none that can be taken off")
    patches = row.outputs[0]
    name = patches.name or ""
    # the file says N x 96 x 64 or with a channel; what the reshape in front of the network was given
    dims = [d if isinstance(d, int) else None for d in (() if patches.shape is None else patches.shape)][1:]
    if tuple(d for d in dims if d != 1) != (recipe.patch, recipe.bands):
        raise UsageError(f"the front end gives {patches.shape}, not patches of {recipe.patch} x {recipe.bands}")
    patches.shape = ir.Shape(["batch", *dims])
    patches.dtype = ir.DataType.FLOAT
    notes = list(model.notes)
    cut(model, [name])
    model.notes[:] = notes  # nothing is lost
    record(model, model.inputs[0].name, recipe)
    return recipe, heard.name


def record(model: Model, waveform: str, recipe: SoundRecipe) -> None:
    """Note in the model's metadata by which recipe an input gets a waveform, or log-mel patches."""
    model.ir.metadata_props[SOUND_KEY] = json.dumps({waveform: recipe.as_dict()}, sort_keys=True)


def log_mel_patches(b: Builder, waveform: ir.Value, recipe: SoundRecipe) -> ir.Value:
    """Add the front end to a graph: samples (float32, one axis) to patches N x patch x bands (float32)."""
    zero = b.const([0], "zero")
    step = b.const([recipe.patch_hop * recipe.hop], "patch_step")
    samples = b.op("Shape", waveform)
    beyond = b.op("Max", b.op("Sub", samples, b.const([recipe.least], "least")), zero)
    rounding = recipe.patch_hop * recipe.hop - 1 if recipe.pad else 0
    further = b.op("Div", b.op("Add", beyond, b.const([rounding], "rounding")), step)
    # what the patches cover: samples beyond it are cut off, samples that lack are silence
    covered = b.op("Add", b.op("Mul", further, step), b.const([recipe.least], "least"))
    lacking = b.op("Max", b.op("Sub", covered, samples), zero)
    x = b.op("Pad", b.op("Cast", waveform, to=DOUBLE), b.op("Concat", zero, lacking, axis=0))
    spectrum = b.op("MatMul", _frames(b, x, covered, recipe), b.const(fourier(recipe), "fourier"))
    bins = recipe.fft // 2 + 1
    squares = b.op("Mul", spectrum, spectrum)
    real, imaginary = b.op("Split", squares, b.const([bins, bins], "halves"), axis=1, outputs=2)
    magnitude = b.op("Sqrt", b.op("Add", real, imaginary))
    mel = b.op("MatMul", magnitude, b.const(mel_matrix(recipe), "mel"))
    log = b.op("Log", b.op("Add", mel, b.const(recipe.offset, "offset", dtype=float)))
    log = b.op("Cast", log, to=FLOAT)
    if recipe.patch_hop == recipe.patch:
        return b.reshape(log, [-1, recipe.patch, recipe.bands])
    one = b.const([1], "one")
    starts = b.op("Mul", _range(b, b.op("Add", further, one)), b.const([recipe.patch_hop], "patch_hop"))
    places = b.op("Add", b.op("Unsqueeze", starts, one), b.const(np.arange(recipe.patch)[None], "in_patch"))
    return b.op("Gather", log, places, axis=0)


def _frames(b: Builder, x: ir.Value, covered: ir.Value, recipe: SoundRecipe) -> ir.Value:
    """Overlapping windows as rows, gathered block by block: blocks divide both window and hop."""
    block = math.gcd(recipe.window, recipe.hop)
    inside = b.op("Slice", x, b.const([0], "zero"), covered)
    blocks = b.reshape(inside, [-1, block])
    windows = b.op("Div", b.op("Sub", covered, b.const([recipe.window], "window")), b.const([recipe.hop], "hop"))
    count = b.op("Add", windows, b.const([1], "one"))
    starts = b.op("Mul", _range(b, count), b.const([recipe.hop // block], "hop_blocks"))
    inner = b.const(np.arange(recipe.window // block)[None], "in_window")
    places = b.op("Add", b.op("Unsqueeze", starts, b.const([1], "one")), inner)
    return b.reshape(b.op("Gather", blocks, places, axis=0), [-1, recipe.window])


def _range(b: Builder, count: ir.Value) -> ir.Value:
    """0, 1, … below a one-element tensor."""
    return b.op("Range", b.const(0, "start"), b.op("Squeeze", count), b.const(1, "delta"))
