"""Hugging Face's layout for ONNX models (optimum, transformers.js): ``onnx/model.onnx``, ``config.json`` with id2label,
``preprocessor_config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.serving.contents import Contents, Unit, as_json
from netferry.errors import UnsupportedOption
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.sound import SoundRecipe

RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "aligned": 2}
"""PIL.Image.Resampling, as the configuration files have it"""


def units(contents: Contents) -> list[Unit]:
    """Return the folder."""
    files: dict[str, bytes | Path] = {f"onnx/{file.name}": file for file in contents.files}
    labels = next(iter(contents.labels.values()), None)
    config: dict[str, Any] = {"model_type": "onnx", "architectures": ["ONNXModel"]}
    if labels:
        config["num_labels"] = len(labels)
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    for name, recipe in contents.preprocessing.items():
        taken = next((t for t in contents.inputs if t.name == name), None)
        sides = _sides(recipe, None if taken is None else taken.shape)
        if sides is not None:
            config["image_size"] = sides[0] if sides[0] == sides[1] else list(sides)
        config["num_channels"] = 1 if recipe.color == "GRAY" else 3
        inside = taken is not None and taken.dtype == "uint8"
        files["preprocessor_config.json"] = as_json(_none(recipe) if inside else preprocessor(recipe, sides))
        break
    for name, recipe in contents.sound.items():
        config["sampling_rate"] = recipe.sample_rate
        if contents.hears[name]:
            files["preprocessor_config.json"] = as_json(_waveform(recipe))
        break
    files["config.json"] = as_json(config)
    task = "image-classification" if contents.preprocessing else "audio-classification" if contents.sound else None
    files["README.md"] = _card(contents, task if labels else None).encode()
    return [Unit("", files)]


def preprocessor(recipe: Preprocessing, sides: tuple[int, int] | None) -> dict[str, Any]:
    """Return the recipe as an image processor's configuration: ``(pixel * rescale_factor - mean) / std``.

    A mean image becomes its mean per channel, the nearest that these files can say; the ONNX file has all of it.
    """
    if recipe.resize == "letterbox":
        raise UnsupportedOption("an image processor cannot letterbox", hint="--resize stretch, or another target")
    channels = 1 if recipe.color == "GRAY" else 3
    mean = _each(
        recipe.mean if recipe.mean_image is None else tuple(recipe.mean_image.mean((1, 2)).tolist()), 0, channels
    )
    scale = _each(recipe.scale, 1, channels)
    crop = recipe.crop or (sides if recipe.resize == "shortest" else None)
    wanted = recipe.size or sides
    out: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor" if recipe.resize == "shortest" else "ViTImageProcessor",
        "do_convert_rgb": recipe.color != "GRAY",
        "do_resize": recipe.resize != "none" and wanted is not None,
        "resample": RESAMPLE[recipe.interpolation],
        "do_center_crop": crop is not None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [m / 255 for m in mean],
        "image_std": [1 / (255 * s) if s else 1.0 for s in scale],
    }
    if out["do_resize"] and wanted is not None:
        square = {"shortest_edge": min(wanted)} if recipe.resize == "shortest" else None
        out["size"] = square or {"height": wanted[0], "width": wanted[1]}
    if crop is not None:
        out["crop_size"] = {"height": crop[0], "width": crop[1]}
    if recipe.color == "BGR":
        out["do_flip_channel_order"] = True
    return out


def _waveform(recipe: SoundRecipe) -> dict[str, Any]:
    """The configuration for a network that takes samples and does everything inside: they go in as they are."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": recipe.sample_rate,
        "padding_value": 0.0, "do_normalize": False, "return_attention_mask": False,
    }  # fmt: skip


def _none(recipe: Preprocessing) -> dict[str, Any]:
    """The configuration for a network that takes decoded pictures and does everything inside."""
    steps = ("resize", "center_crop", "rescale", "normalize")
    colors = {"do_convert_rgb": recipe.color != "GRAY", "data_format": "channels_last"}
    return {"image_processor_type": "ViTImageProcessor", **{f"do_{step}": False for step in steps}, **colors}


def _each(values: tuple[float, ...], default: float, channels: int) -> list[float]:
    return np.broadcast_to(np.asarray(values or (default,), float), channels).tolist()


def _sides(recipe: Preprocessing, shape: tuple[int | str | None, ...] | None) -> tuple[int, int] | None:
    """Height and width that the network takes, where it fixes them."""
    if shape is None or len(shape) != 4:
        return recipe.crop or recipe.size
    height, width = shape[1:3] if recipe.layout == "NHWC" else shape[2:4]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else recipe.crop or recipe.size


def _card(contents: Contents, task: str | None) -> str:
    tag = "" if task is None else f"pipeline_tag: {task}\n"
    facts = "".join(
        f"\nInput `{name}` takes {'samples' if contents.hears[name] else 'log-mel patches of samples'} at "
        f"{recipe.sample_rate} Hz, mono, -1 to 1; patches of {recipe.patch} frames x {recipe.bands} bands, "
        f"{recipe.patch_hop * recipe.hop / recipe.sample_rate:g} s apart.\n"
        for name, recipe in contents.sound.items()
    )
    rows = "\n".join(
        f"| {kind} | `{t.name.replace('|', ' ').replace('`', ' ')}` | {t.dtype} | {list(t.shape or ())} |"
        for kind, tensors in (("input", contents.inputs), ("output", contents.outputs))
        for t in tensors
    )
    return (
        f"---\nlibrary_name: onnx\n{tag}tags:\n- onnx\n---\n\n# {contents.name}\n\n"
        f"Converted from {contents.source.get('format', 'ONNX')} by netferry {contents.netferry}.\n\n"
        f"| | name | element type | shape |\n| --- | --- | --- | --- |\n{rows}\n{facts}"
    )
