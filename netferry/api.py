"""The verbs, for Python: load, save, convert, verify, inspect, predict. The only module that knows all rooms."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.errors import UsageError

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.nn import Module

    from netferry.schemas.model import Model
    from netferry.schemas.preprocessing import Preprocessing

StrPath = str | Path


def load(
    source: StrPath,
    weights: StrPath | None = None,
    *,
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
    init: int | None = None,
    plugins: Sequence[StrPath] = (),
    limits: Mapping[str, int] | None = None,
) -> Model:
    """Read a network of any supported format.

    Args:
        source: the file with the architecture (and weights, where the format keeps both in one).
        weights: the second file, for formats that have one.
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
        init: seed for parameters that have no values.
        plugins: Python files that register further layer readers.
        limits: other bounds than the defaults of :class:`netferry.converters.options.Limits`.

    Raises:
        NetferryError: the one root of all errors; see netferry.errors.
    """
    from netferry.converters import formats
    from netferry.converters.options import Limits, ReadOptions
    from netferry.converters.plugins import load_installed, load_plugin

    load_installed()
    for plugin in plugins:
        load_plugin(Path(plugin))
    try:
        bounds = Limits(**(limits or {}))
    except TypeError:
        known = ", ".join(Limits.__dataclass_fields__)
        raise UsageError(f"no such limit; there are {known}") from None
    options = ReadOptions(
        weights=None if weights is None else Path(weights),
        batch=batch,
        input_shapes={k: tuple(v) for k, v in (input_shapes or {}).items()},
        mean=None if mean_file is None else Path(mean_file),
        level=level,
        stages=tuple(stages),
        skip_missing=skip_missing,
        inputs_as_nchw=tuple(inputs_as_nchw),
        outputs_as_nchw=tuple(outputs_as_nchw),
        right_padded_masks=right_padded_masks,
        limits=bounds,
    )
    path = Path(source)
    chosen = formats.by_name(format) if format else formats.detect(path)
    model = chosen.read(path, options)
    if labels is not None:
        _set_labels(model, labels)
    if preprocessing is not None and model.inputs:
        model.preprocessing[model.inputs[0].name] = preprocessing
    if recipe:
        _change_recipe(model, recipe)
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
    names = _label_names(labels) or []
    for output in model.outputs:
        size = next((d for d in reversed(output.shape or ()) if isinstance(d, int) and d > 1), None)
        if size is None or size == len(names):
            model.labels[output.name] = names
            return
    sizes = ", ".join(str(o.shape) for o in model.outputs)
    raise UsageError(f"{len(names)} labels fit no output (shapes {sizes})", hint="one label per class, one per line")


def save(
    model: Model,
    target: StrPath,
    *,
    opset: int | None = None,
    ir_version: int | None = None,
    external_data: bool | None = None,
    check: str = "auto",
    allow_placeholders: bool = False,
    before_publishing: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Write a model as ONNX, after checking it; the file appears whole or not at all.

    Args:
        model: the model.
        target: the file to write.
        opset: 11 to 26; the graph's own by default.
        ir_version: the lowest that carries the content by default.
        external_data: weights in a second file: True, False, or None for "where the file would pass 1.8 GB".
        check: ``structure`` (full check and strict shape inference), ``run`` (also loaded and run by onnxruntime at
            batch 1 and 3), or ``auto``: run where an onnxruntime is installed.
        allow_placeholders: write layers nobody could read under netferry's own domain.
        before_publishing: called after the run check with the finished file (a large one's structure as bytes, and
            ``weights_folder``) before it takes its place; what it raises keeps the file from appearing.

    Returns:
        What was written and checked: files with sizes, checks with outcome, timings in seconds.

    Raises:
        NetferryError: nothing is written then.
    """
    from netferry import __version__
    from netferry.converters.onnx.write import write

    if check not in ("auto", "structure", "run"):
        raise UsageError(f"check is auto, structure or run, not {check!r}")
    if opset is not None:
        _at_opset(model, opset)
    run = _run_check(model, check, allow_placeholders)
    if before_publishing is not None:
        run = _both(run, before_publishing)
    return write(
        model,
        Path(target),
        ir_version=ir_version,
        external="auto" if external_data is None else external_data,
        run_check=run,
        allow_placeholders=allow_placeholders,
        producer_version=__version__,
    )


def _at_opset(model: Model, opset: int) -> None:
    from netferry.converters.passes.opset import to_opset

    if opset != model.opset:
        model.notes.extend(to_opset(model, opset))


def _run_check(model: Model, check: str, allow_placeholders: bool) -> Any:
    if check == "structure" or (allow_placeholders and model.placeholders()):
        return None
    from importlib.util import find_spec

    if check == "auto" and find_spec("onnxruntime") is None:
        return None
    from netferry.runtime.verify import run_check

    return run_check


def _both(run: Any, further: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    def checked(file: Any, **where: Any) -> dict[str, Any]:
        found = run(file, **where) if run is not None else {}
        further(file, **where)
        return found

    return checked


def convert(
    source: StrPath,
    target: StrPath,
    weights: StrPath | None = None,
    *,
    report: StrPath | None = None,
    opset: int | None = None,
    ir_version: int | None = None,
    external_data: bool | None = None,
    check: str = "auto",
    allow_placeholders: bool = False,
    optimize: str = "none",
    precision: str | None = None,
    disable: Sequence[str] = (),
    verify: bool = False,
    **reading: Any,
) -> dict[str, Any]:
    """Read ``source`` (see :func:`load` for the further options) and write it as ONNX (see :func:`save`).

    Args:
        optimize: ``safe`` or ``full`` makes the graph smaller; checked by runs before and after.
        precision: ``fp16`` or ``bf16``.
        disable: passes to leave out.
        report: write the machine-readable conversion report here.
        verify: run the source in its own framework too and write nothing where the results differ; the error names
            the first diverging layer (see :func:`verify`).

    Returns:
        The report (schemas/report.schema.json); the sources' hashes are computed only where ``report`` is given.
    """
    from netferry import __version__
    from netferry.changing import change
    from netferry.schemas.report import Report

    started = time.perf_counter()
    model = load(source, weights, **reading)
    read = time.perf_counter()
    options = {
        "optimize": optimize,
        "precision": precision,
        "opset": opset,
        "ir_version": ir_version,
        "external_data": external_data,
        "check": check,
    }
    if opset is not None and (optimize != "none" or precision is not None):
        _at_opset(model, opset)
    changed = change(
        model,
        lambda m, path: save(m, path, check="structure"),
        optimize=optimize,
        precision=precision,
        disable=disable,
        check=check != "structure",
    )
    found: list[dict[str, Any]] = []
    verifier = None
    if verify:
        from netferry.verification import verifier_of

        options["verify"] = True
        if check == "structure":
            raise UsageError("verify runs the result, check=structure does not")
        verifier = verifier_of([Path(f) for f in (source, weights) if f is not None], model, reading, found)
    written = save(
        model,
        target,
        opset=opset,
        ir_version=ir_version,
        external_data=external_data,
        check=check,
        allow_placeholders=allow_placeholders,
        before_publishing=verifier,
    )
    document = Report(model, netferry_version=__version__, options=options | _plain(reading))
    document.timing("read", read - started)
    document.written(written)
    document.changed(changed)
    for detail in found:
        document.check("verify", "passed", detail)
    return document.finish(report)


def verify(
    source: StrPath,
    candidate: StrPath,
    weights: StrPath | None = None,
    *,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    seeds: int = 2,
    sizes: Mapping[str, int] | None = None,
    bisect: bool = False,
    python: str | None = None,
    timeout: float = 600,
    **reading: Any,
) -> dict[str, Any]:
    """Run the same seeded inputs through a source and an ONNX file, and say how far the results are apart.

    An ONNX source runs on onnxruntime, as the candidate does (on onnx.reference where onnxruntime cannot); Keras 3
    files run in Keras 3, older ones in tf_keras, Caffe nets in OpenCV 4, TensorFlow models in TensorFlow, each in a
    child process. Inputs are fed at batch 1 and 3, with two sizes of every other dynamic dimension.

    Args:
        source: the source, with ``weights`` where they are a second file.
        candidate: the ONNX file made from it.
        atol, rtol: floats agree where the largest difference is at most ``atol``, or at most ``rtol`` times the
            output's largest magnitude; other values must be equal.
        seeds: how many sets of inputs; every second one has negative floats too.
        sizes: sizes of named dynamic dimensions (``{"height": 224}``) instead of the two that are tried.
        bisect: also look for the first layer whose values differ.
        python: the interpreter that has the source's framework; this one by default.
        timeout: seconds that the source's framework may take.
        reading: options of :func:`load` for the source.

    Returns:
        ``agrees``, ``source``, ``candidate``, ``tolerance``, ``cases``, ``worst`` per output, ``bisect``; a difference
        that is infinite is null.

    Raises:
        CheckFailed: the candidate does not run where the source does, or outputs are missing.
        MissingExtra: what runs the source is not installed.
        UnsafeFile: the source holds code, which is never run.
        UnsupportedError: its own framework does not read the source.
    """
    from netferry.runtime.agreement import Tolerance
    from netferry.verification import compare_files

    return compare_files(
        [Path(f) for f in (source, weights) if f is not None],
        Path(candidate),
        reading,
        tolerance=Tolerance(atol, rtol),
        seeds=seeds,
        sizes=sizes,
        bisect=bisect,
        python=python,
        seconds=timeout,
    )


def inspect(source: StrPath | Model, weights: StrPath | None = None, **reading: Any) -> dict[str, Any]:
    """Return what a network consists of: inputs, outputs, totals, layer table, warnings.

    Args:
        source: a file (see :func:`load` for ``weights`` and the further options) or a model.
    """
    from netferry.description import describe

    model = load(source, weights, **reading) if isinstance(source, (str, Path)) else source
    return describe(model)


def to_torch(model: Model, *, frozen_statistics: bool = False) -> GraphModule:
    """Return the network as a trainable torch module; the model itself stays as it is.

    Args:
        model: the model.
        frozen_statistics: batch norms keep their running statistics in training.

    Returns:
        A ``torch.fx.GraphModule`` of ordinary ``torch.nn`` modules, named by the source's layers.

    Raises:
        MissingExtra: torch is not installed.
        UnsupportedLayer: operators that have no counterpart, all of them.
        Uninitialised: parameters have no values.
    """
    _require_torch()
    from netferry.converters.passes.opset import to_opset
    from netferry.runtime.torch.build import LOWEST_OPSET, build
    from netferry.schemas.model import Model as Copy

    raised = Copy(model.ir.clone(), source=model.source)
    if raised.opset < LOWEST_OPSET:
        to_opset(raised, LOWEST_OPSET)
    return build(raised, frozen_statistics=frozen_statistics)


def update_from(model: Model, module: Module) -> list[str]:
    """Write a trained module's parameters and statistics back into the model; see runtime/torch/writeback.py."""
    _require_torch()
    from netferry.runtime.torch.writeback import update_from as write_back

    return write_back(model, module)


def _require_torch() -> None:
    from importlib.util import find_spec

    from netferry.errors import MissingExtra

    if find_spec("torch") is None:
        raise MissingExtra("torch", "train", "training")


def predict(
    source: StrPath | Model,
    pictures: Sequence[StrPath],
    *,
    weights: StrPath | None = None,
    top: int = 5,
    labels: StrPath | Sequence[str] | None = None,
    annotate: StrPath | None = None,
    device: str = "auto",
    batch_size: int = 16,
    output: str | None = None,
    on_error: str = "fail",
    mean: Sequence[float] | None = None,
    mean_file: StrPath | None = None,
    scale: Sequence[float] | None = None,
    channel_order: str | None = None,
    resize: str | None = None,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Label pictures with a network of any format.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        pictures: files, folders, globs.
        top: how many labels per picture.
        labels: class names, where the model carries none.
        annotate: write the pictures with label and score here.
        device: auto, cpu, cuda …
        output: the output with the scores, where there are several.
        on_error: ``fail`` at a corrupt picture, or ``skip`` it.
        mean, mean_file, scale, channel_order, resize, size, crop: changes to the model's preprocessing.

    Returns:
        ``predictions`` (item, softmax: whether netferry applied one, top: label, class, score), ``skipped``,
        ``device``, ``provider``, ``preprocessing`` and whose it is.
    """
    from netferry.runtime.predict import Classifier, expand
    from netferry.runtime.session import Session

    changes = {
        "mean": None if mean is None else tuple(mean),
        "scale": None if scale is None else tuple(scale),
        "color": None if channel_order is None else channel_order.upper(),
        "resize": resize,
        "size": size,
        "crop": crop,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if on_error not in ("fail", "skip"):
        raise UsageError(f"on_error is fail or skip, not {on_error!r}")
    if mean_file is not None:
        reading["mean_file"] = mean_file
    items = list(expand(pictures))
    with _as_onnx(source, weights, reading) as path:
        session = Session(path, device=device)
        classifier = Classifier(session, labels=_label_names(labels), output=output)
        if changes:
            recipe = classifier.recipe.with_(**changes)
            classifier = Classifier(session, recipe, _label_names(labels), output=output)
        found = list(classifier.predict(items, top, batch_size, on_error=on_error))
    if annotate is not None:
        from netferry.runtime.annotate import annotate as draw

        draw(found, annotate)
    return {
        "model": str(source) if isinstance(source, (str, Path)) else source.graph.name,
        "device": session.device,
        "provider": session.provider,
        "preprocessing": classifier.recipe.as_dict(),
        "preprocessing_from": classifier.recipe_from,
        "predictions": [p.as_dict() for p in found if p.error is None],
        "skipped": [p.as_dict() for p in found if p.error is not None],
    }


def _label_names(labels: StrPath | Sequence[str] | None) -> list[str] | None:
    from netferry.schemas.labels import read_labels

    if labels is None:
        return None
    return read_labels(Path(labels)) if isinstance(labels, (str, Path)) else list(labels)


@contextmanager
def _as_onnx(source: StrPath | Model, weights: StrPath | None, reading: Mapping[str, Any]) -> Iterator[Path]:
    """Give the path of an ONNX file of ``source``: itself, or one converted into a temporary folder."""
    from netferry.converters.formats import by_name, detect

    if isinstance(source, (str, Path)):
        chosen = by_name(reading["format"]) if reading.get("format") else detect(Path(source))
        changed = any(v for k, v in reading.items() if k != "format")
        if chosen.name == "onnx" and weights is None and not changed:
            yield Path(source)
            return
        source = load(source, weights, **reading)
    with tempfile.TemporaryDirectory(prefix="netferry-") as folder:
        path = Path(folder) / "model.onnx"
        save(source, path, check="structure")
        yield path


def formats() -> list[dict[str, Any]]:
    """Return the formats that netferry reads."""
    from netferry.converters.formats import FORMATS

    rows: list[dict[str, Any]] = []
    for entry in FORMATS:
        registry = entry.layers()
        count = None if registry is None else len(registry)
        rows.append({"format": entry.name, "about": entry.about, "files": list(entry.files), "layers": count})
    return rows


def layers(format: str | None = None, *, plugins: Sequence[StrPath] = ()) -> list[dict[str, str]]:
    """Return the layer types that netferry reads, from the registries; of one format, or of all."""
    from netferry.converters.formats import FORMATS, by_name
    from netferry.converters.plugins import load_installed, load_plugin

    chosen = [by_name(format)] if format else list(FORMATS)
    registries = [(f.name, f.layers()) for f in chosen]
    load_installed()
    for plugin in plugins:
        load_plugin(Path(plugin))
    return [
        {"format": name} | row for name, registry in registries if registry is not None for row in registry.describe()
    ]


def doctor() -> dict[str, Any]:
    """Return what is installed, which devices can be used, and the fix for what is missing."""
    from netferry.diagnosis import diagnose

    return diagnose()


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON can say them; unset ones left out."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if value in (None, False, (), [], {}):
            continue
        plain[name] = value.as_dict() if hasattr(value, "as_dict") else value if _is_json(value) else str(value)
    return plain


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    return value is None or isinstance(value, (str, int, float, bool))
