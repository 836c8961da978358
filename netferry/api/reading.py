"""``load``: a network of any supported format as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.errors import UsageError

if TYPE_CHECKING:
    from torch.nn import Module

    from netferry.sandbox import Bounds
    from netferry.schemas.model import Model
    from netferry.schemas.preprocessing import Preprocessing

StrPath = str | Path


def load(
    source: StrPath | Module,
    weights: StrPath | None = None,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    format: str | None = None,
    batch: int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    labels: StrPath | Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    recipe: Mapping[str, Any] | None = None,
    mean_file: StrPath | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
    skip_missing: bool = False,
    inputs_as_nchw: Sequence[str] = (),
    outputs_as_nchw: Sequence[str] = (),
    right_padded_masks: bool = False,
    decode_boxes: bool = False,
    score_threshold: float = 0.25,
    overlap: float = 0.45,
    init: int | None = None,
    front_end: str | None = None,
    postprocess: StrPath | None = None,
    plugins: Sequence[StrPath] = (),
    limits: Mapping[str, int] | None = None,
    sandbox: bool | Bounds = False,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    no_weights: bool = False,
) -> Model:
    """Read a network of any supported format.

    Args:
        source: the file with the architecture (and weights, where the format keeps both in one).
        weights: the second file, for formats that have one; or a ``.safetensors`` file whose weights fill the network.
        example_inputs: for a torch module in the place of ``source``: a tensor for each input, in order or in
            a dict by name.
        dynamic_shapes: for a torch module: for each input, nested as they are, names of its dynamic axes
            (``{0: "batch", 2: "height", 3: "width"}``; dimensions of one name have one size; a
            ``torch.export.Dim`` gives bounds too); by default the first axis of each is the batch, or the second where
            the module's tracing fixes the first.
        format: the format's name; by default the content decides.
        batch: fix the batch size; None keeps it dynamic.
        input_shapes: shapes of inputs that the file does not give, batch first.
        labels: class names of the first output, or a file of them.
        preprocessing: how pictures become the first input; replaces what the source says.
        recipe: single fields of the preprocessing to change (``{"mean": (104, 117, 123)}``).
        mean_file: Caffe's ``.binaryproto`` mean image.
        level, stages: Caffe's net state.
        skip_missing: go on where the weights file lacks some.
        inputs_as_nchw, outputs_as_nchw: inputs and outputs of a channels-last source (Keras) that become
            channels-first; "*" for all.
        right_padded_masks: Keras: the caller's sequences are padded at the end only.
        decode_boxes: Darknet: the outputs of detection heads become ``boxes`` (left, top, right, bottom as parts of the
            picture), ``scores``, ``classes`` and ``images``, suppressed per class.
        score_threshold, overlap: with ``decode_boxes``: the least score, and the IoU beyond which a box goes.
        init: seed for parameters that have no values.
        front_end: ``vggish`` or ``yamnet``: let a network of log-mel patches read a waveform.
        postprocess: VGGish's ``vggish_pca_params.npz``: the embedding goes through its PCA and becomes 8-bit numbers.
        plugins: Python files that register further layer readers.
        limits: other bounds than the defaults of :class:`netferry.converters.options.Limits`.
        sandbox: read in a confined child process, so that a file that crashes a native library (HDF5, protobuf) is an
            error here; the parameters need values. ``Bounds`` of netferry.sandbox in place of True set its limits.
        inputs, outputs: keep only the part of the network from these tensors or layers to those (a layer stands for
            what enters it, or for what leaves it).
        no_weights: the architecture alone: parameters have no values (``init`` makes some up), and data files that
            hold them need not be there.

    Raises:
        NetferryError: the one root of all errors; see netferry.errors.
    """
    if sandbox:
        from netferry.api import confined

        given = {k: v for k, v in locals().items() if k not in ("sandbox", "confined")}
        return confined.load(given, None if sandbox is True else sandbox)
    from netferry.converters import formats
    from netferry.converters.options import Limits, ReadOptions
    from netferry.converters.plugins import load_installed, load_plugin

    load_installed()
    for plugin in plugins:
        load_plugin(Path(plugin))
    bounds = Limits.of(limits)
    tensors = None if weights is None or Path(weights).suffix != ".safetensors" else Path(weights)
    options = ReadOptions(
        weights=None if weights is None or tensors is not None else Path(weights),
        batch=batch,
        input_shapes={k: tuple(v) for k, v in (input_shapes or {}).items()},
        mean=None if mean_file is None else Path(mean_file),
        level=level,
        stages=tuple(stages),
        skip_missing=skip_missing,
        inputs_as_nchw=tuple(inputs_as_nchw),
        outputs_as_nchw=tuple(outputs_as_nchw),
        right_padded_masks=right_padded_masks,
        decode_boxes=decode_boxes,
        score_threshold=score_threshold,
        overlap=overlap,
        limits=bounds,
        no_weights=no_weights,
    )
    from netferry.api.torch_modules import is_module, read_module
    from netferry.schemas.collection import collection_paused

    if is_module(source):
        model = read_module(source, example_inputs, options, dynamic_shapes)
    else:
        path = Path(source)  # pyright: ignore[reportArgumentType]
        chosen = formats.by_name(format) if format else formats.detect(path)
        with collection_paused():
            model = chosen.read(path, options)
    if tensors is not None:
        from netferry.api.weights import load_weights

        load_weights(model, tensors, skip_missing=skip_missing)
    if inputs or outputs:
        from netferry.api.cutting import cut_out

        cut_out(model, inputs, outputs)
    if no_weights:
        model.forget_values()
    if labels is not None:
        _set_labels(model, labels)
    if preprocessing is not None and model.inputs:
        model.preprocessing[model.inputs[0].name] = preprocessing
    if recipe:
        _change_recipe(model, recipe)
    if front_end is not None:
        from netferry.api.sounds import add_front_end

        add_front_end(model, front_end)
    if postprocess is not None:
        from netferry.converters.pca import add_postprocess, read_pca

        add_postprocess(model, read_pca(Path(postprocess)))
    if init is not None:
        model.initialise(init, limit=bounds.init_elements)
    return model


def _change_recipe(model: Model, recipe: Mapping[str, Any]) -> None:
    """Change fields of the first picture-like input's preprocessing; Caffe's own channel order is BGR."""
    from netferry.schemas.preprocessing import Preprocessing

    picture = next((i for i in model.inputs if i.shape is not None and len(i.shape) == 4), None)
    if picture is None:
        raise UsageError("preprocessing needs a picture-like input (rank 4), the model has none")
    base = model.preprocessing.get(picture.name)
    if base is None:
        *_, channels = model.input_size
        color = "GRAY" if channels == 1 else "BGR" if model.source.format == "caffe" else "RGB"
        base = Preprocessing(color=color)
    model.preprocessing[picture.name] = base.with_(**recipe)


def _set_labels(model: Model, labels: StrPath | Sequence[str]) -> None:
    names = label_names(labels) or []
    classes: dict[str, int] = model.source.details.get("classes", {})
    detected = [name for name, count in classes.items() if count == len(names)]
    if detected:  # outputs that hold class numbers, or scores among other things
        model.labels.update(dict.fromkeys(detected, names))
        return
    for output in model.outputs:
        size = next((d for d in reversed(output.shape or ()) if isinstance(d, int) and d > 1), None)
        if size is None or size == len(names):
            model.labels[output.name] = names
            return
    sizes = ", ".join(str(o.shape) for o in model.outputs)
    raise UsageError(f"{len(names)} labels fit no output (shapes {sizes})", hint="one label per class, one per line")


def label_names(labels: StrPath | Sequence[str] | None) -> list[str] | None:
    """Class names as given, or read from a file of them."""
    from netferry.schemas.labels import read_labels

    if labels is None:
        return None
    if not isinstance(labels, (str, Path)):
        return list(labels)
    if Path(labels).suffix == ".data":
        from netferry.converters.darknet.names import read_data

        return read_data(Path(labels))
    return read_labels(Path(labels))
