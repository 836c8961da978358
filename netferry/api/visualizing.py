"""``visualize``: what a network sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.evaluating import table
from netferry.api.features import extractor_of, opened
from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath, label_names, load
from netferry.api.remote import Transfers
from netferry.errors import UsageError, quoted
from netferry.schemas.publish import write_whole
from netferry.schemas.remote import plain_name

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data import Loaded
    from netferry.runtime.feed import Feed, Tensors
    from netferry.runtime.predict import Classifier
    from netferry.schemas.model import Model

KINDS = ("activations", "cam", "map")
METHODS = {"cam": ("auto", "gradcam", "occlusion"), "map": ("auto", "pca", "tsne")}


def visualize(
    source: StrPath | Model,
    pictures: Sequence[StrPath],
    *,
    kind: str = "activations",
    layer: str | None = None,
    method: str = "auto",
    target: str | int | None = None,
    out: StrPath | None = None,
    weights: StrPath | None = None,
    labels: StrPath | Sequence[str] | None = None,
    device: str = "auto",
    batch_size: int = 16,
    threads: int | None = None,
    seed: int = 0,
    on_error: str = "fail",
    workers: int | None = None,
    data_options: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Draw what a network sees.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        pictures: what :func:`netferry.open_data` takes; labels colour the map.
        kind: ``activations``: the channels of a layer as a mosaic, for each picture. ``cam``: where the network looks
            for a class, over each picture. ``map``: the layer's features of all pictures as points, by class.
        layer: the layer; by default the first with pictures of channels (activations), the last (cam, map).
        method: for ``cam`` gradcam (needs torch) or occlusion, for ``map`` tsne or pca; auto takes what goes.
        target: for ``cam``: the class, by name or number; by default the network's answer.
        out: a file (.png, .svg, .pdf) for one drawing, a folder for several.
        threads: of one run of the network on the processor; onnxruntime's choice where None.
        seed: for t-SNE.
        on_error: ``fail`` at a picture that cannot be read, or ``skip`` it.
        workers: threads that decode.
        data_options: further arguments of :func:`netferry.open_data`.
        recipe: fields of the preprocessing to change.

    Returns:
        ``kind``, ``layer``, ``method``, ``files``, ``skipped``, and for each picture what was drawn.

    Raises:
        UsageError: no such layer or class; a layer whose values are no pictures of channels.
        MissingExtra: matplotlib, scikit-learn, or torch for gradcam, is not installed.
    """
    from netferry.runtime.plots import SUFFIXES, require_matplotlib

    require_matplotlib()
    if kind not in KINDS:
        raise UsageError(f"kind is {', '.join(KINDS)}, not {kind!r}")
    if method != "auto" and method not in METHODS.get(kind, ()):
        raise UsageError(f"method of {kind} is {', '.join(METHODS.get(kind, ('auto',)))}, not {method!r}")
    out = out if out is not None else "map.png" if kind == "map" else kind
    suffix = plain_name(out).suffix
    if suffix and suffix.lower() not in SUFFIXES:
        raise UsageError(f"a drawing is a {', '.join(SUFFIXES)} file, or a folder of them", file=out)
    with Transfers() as files, ExitStack() as stack:
        items, place = opened(files.inputs(pictures), (), data_options), Path(files.output(out))
        path = stack.enter_context(as_onnx(files.input(source), files.input(weights), files.options(reading)))
        if kind == "cam" and method == "auto":
            method = "gradcam" if find_spec("torch") is not None else "occlusion"
        chosen = layer
        if chosen is None and method != "occlusion":
            chosen = _layer_of(path, last=kind != "activations")
        names = label_names(files.input(labels))
        job = _Job(path, items, chosen, place, (device, threads), batch_size, dict(recipe or {}), names)
        job.workers, job.on_error = workers, on_error
        if kind == "activations":
            found = job.activations()
        elif kind == "cam":
            found = job.cam(method, target)
        else:
            found = job.map(method, seed)
    named = str(source) if isinstance(source, (str, Path)) else source.graph.name
    return files.named({"model": named, "kind": kind, **found, "skipped": job.skipped})


def _layer_of(path: Path, *, last: bool) -> str:
    """The first or the last layer that gives pictures of channels, larger than one pixel; of a file that tells no
    shapes, the first or last convolution."""
    from netferry.schemas.layers import layer_of

    model = load(path, format="onnx")
    names: list[str] = []
    convolutions = {layer_of(node)[0] for node in model.graph if node.op_type == "Conv"}
    for row in model.layers:
        shapes = [v.shape for v in row.outputs if v.shape is not None]
        pixels = [s for s in shapes if len(s) == 4 and all(not isinstance(d, int) or d > 1 for d in (s[2], s[3]))]
        if (row.type != "Input" and pixels) or (not shapes and row.name in convolutions):
            names.append(row.name)
    if not names:
        raise UsageError("no layer of the network gives pictures of channels", hint="--layer names one")
    return names[-1] if last else names[0]


class _Job:
    """One call: what the kinds share."""

    def __init__(
        self, path: Path, items: Any, layer: str | None, place: Path, device: tuple[str, int | None],
        batch: int, recipe: dict[str, Any],
        labels: Sequence[str] | None,
    ) -> None:  # fmt: skip
        self.path, self.items, self.place, self.batch = path, items, place, batch
        self.device, self.recipe, self.labels = device, recipe, labels
        self.workers: int | None = None
        self.on_error = "fail"
        self.skipped: list[dict[str, Any]] = []
        self.layer = ""  # occlusion looks into none
        if layer is not None:
            self.piece, self.extractor = extractor_of(path, [layer], "none", device[0], recipe, threads=device[1])
            self.layer = self.piece.taps[0].layer

    def _place(self, item: str, number: int, kind: str) -> Path:
        if self.place.suffix:
            if number:
                raise UsageError("there are several pictures: give a folder, not a file", file=self.place)
            return self.place
        stem = Path(item).stem or f"picture {number}"
        safe = "".join(
            c if c.isalnum() or c in "._- " else "_" for c in f"{stem}{'.' if self.layer else ''}{self.layer}.{kind}"
        )
        return self.place / f"{number:03d} {safe[:120]}.png".replace(" ", "-")

    def _loaded(self, feed: Feed, size: int = 1) -> Iterator[list[Loaded[Tensors]]]:
        """The items that can be read, ``size`` at a time, decoded ahead."""
        from netferry.runtime.data import load_ahead

        for chunk in load_ahead(self.items, feed, size, workers=self.workers, on_error=self.on_error):
            for loaded in chunk:
                if loaded.error is not None:
                    self.skipped.append({"item": loaded.item.id, "error": loaded.error.as_dict()})
            if readable := [loaded for loaded in chunk if loaded.error is None]:
                yield readable

    def activations(self) -> dict[str, Any]:
        """A mosaic for each picture."""
        from netferry.runtime.picture_charts import mosaic_chart
        from netferry.runtime.plots import write_figure
        from netferry.runtime.visualize import as_channels, seen_picture, strongest

        rows: list[dict[str, Any]] = []
        feed = self.extractor.feed
        for number, (loaded,) in enumerate(self._loaded(feed)):
            item = loaded.item
            (values,) = self.extractor([loaded.value or {}])
            channels = as_channels(values[0], self.extractor.layers[0].last(values.ndim))
            shown = strongest(channels)
            left_out = f", the {len(shown)} strongest" if len(shown) < len(channels) else ""
            shape = " × ".join(map(str, values[0].shape))
            title = f"{self.layer} ({shape}{left_out})  {Path(item.id).name}"
            picture = seen_picture(feed, _picture_of(item))
            file = self._place(item.id, number, "activations")
            write_figure(mosaic_chart(picture, channels[shown], shown.tolist(), title=title), file)
            rows.append(
                {"item": item.id, "file": str(file), "shape": list(values[0].shape), "channels": shown.tolist()}
            )
        return {"layer": self.layer, "pictures": rows, "files": [row["file"] for row in rows]}

    def cam(self, method: str, target: str | int | None) -> dict[str, Any]:
        """A class activation map over each picture."""
        from netferry.runtime.picture_charts import overlay_chart
        from netferry.runtime.plots import write_figure
        from netferry.runtime.predict import Classifier
        from netferry.runtime.session import Session
        from netferry.runtime.visualize import peak, scaled_to, seen_picture

        classifier = Classifier(Session(self.path, *self.device), labels=self.labels, changes=self.recipe)
        module: Any = self._module(classifier) if method == "gradcam" else None
        used = "occlusion" if module is None else "gradcam"
        rows: list[dict[str, Any]] = []
        for number, (loaded,) in enumerate(self._loaded(classifier.feed)):
            item, tensors = loaded.item, loaded.value or {}
            tensor = tensors[classifier.session.inputs[0].name]
            scores = self._scores(classifier, tensor[None])[0]
            wanted = int(scores.argmax()) if target is None else _class_of(target, classifier, len(scores))
            if module is None:
                heat = self._occluded(classifier, tensor, wanted)
            else:
                from netferry.runtime.torch.gradcam import gradcam

                heat = gradcam(module, tensor[None], wanted)
            picture = seen_picture(classifier.feed, _picture_of(item))
            name = classifier.labels[wanted] if classifier.labels else f"class {wanted}"
            note = f"Grad-CAM at {self.layer}" if module is not None else "occlusion: what covering costs"
            title = f"{name} ({scores[wanted]:.3f})  {Path(item.id).name}"
            file = self._place(item.id, number, used)
            scaled = scaled_to(heat, *picture.shape[:2])
            write_figure(overlay_chart(picture, scaled, title=title, note=note), file)
            rows.append({"item": item.id, "file": str(file), "class": wanted, "label": name,
                         "score": float(scores[wanted]), "peak": peak(scaled)})  # fmt: skip
        where = {"layer": self.layer} if module is not None else {}
        return {**where, "method": used, "pictures": rows, "files": [row["file"] for row in rows]}

    def _module(self, classifier: Classifier) -> Any:
        """The network as a torch module that gives the scores before a last softmax, and the layer's values."""
        from netferry.api.training import to_torch

        model = load(self.path, format="onnx")
        values = {v.name: v for node in model.graph for v in node.outputs}
        scores = values[classifier.output.name]
        producer = scores.producer()
        while producer is not None and producer.op_type in ("Softmax", "LogSoftmax", "Identity") and producer.inputs[0]:
            scores = producer.inputs[0]
            producer = scores.producer()
        layer = values[self.piece.taps[0].value]
        model.graph.outputs.clear()
        model.graph.outputs.extend([scores, layer])
        return to_torch(model)

    def _scores(self, classifier: Classifier, batch: np.ndarray) -> np.ndarray:
        import numpy as np

        name = classifier.session.inputs[0].name
        rows: list[np.ndarray] = [np.empty(0)] * len(batch)
        for members, outputs in classifier.feed.run([{name: row} for row in batch], [classifier.output.name]):
            raw = outputs[classifier.output.name].reshape(len(members), -1).astype(np.float64)
            probabilities, _ = classifier.probabilities(raw)
            for member, row in zip(members, probabilities, strict=True):
                rows[member] = row
        found = np.stack(rows)
        return np.hstack([1 - found, found]) if found.shape[1] == 1 else found

    def _occluded(self, classifier: Classifier, tensor: np.ndarray, target: int) -> np.ndarray:
        from netferry.runtime.visualize import occlusion_map

        return occlusion_map(
            lambda batch: self._scores(classifier, batch)[:, target], tensor,
            channels_last=classifier.recipe.layout == "NHWC", batch=self.batch,
        )  # fmt: skip

    def map(self, method: str, seed: int) -> dict[str, Any]:
        """The layer's features of all pictures as points."""
        import numpy as np

        from netferry.runtime.features.pool import pooled
        from netferry.runtime.picture_charts import feature_map
        from netferry.runtime.plots import write_figure
        from netferry.runtime.visualize import in_two_dimensions

        layer = self.extractor.layers[0]
        names: list[str] = []
        classes: list[str | None] = []
        features: list[np.ndarray] = []
        for chunk in self._loaded(self.extractor.feed, self.batch):
            (values,) = self.extractor([loaded.value for loaded in chunk if loaded.value is not None])
            features.append(pooled(values, "avg", channels_last=layer.last(values.ndim)))
            names.extend(loaded.item.id for loaded in chunk)
            classes.extend(loaded.item.label for loaded in chunk)
        points, how = in_two_dimensions(np.concatenate(features) if features else np.empty((0, 1)), method, seed)
        file = self.place if self.place.suffix else self.place / "map.png"
        write_figure(feature_map(points, classes, how, title=f"features of {self.layer}, {len(names)} items"), file)
        columns = file.with_suffix(".csv")
        rows = [[n, c or "", f"{x:.6g}", f"{y:.6g}"] for n, c, (x, y) in zip(names, classes, points, strict=True)]
        write_whole(columns, table([["item", "label", "x", "y"], *rows]))
        return {"layer": self.layer, **how, "items": len(names), "files": [str(file), str(columns)]}


def _picture_of(item: Any) -> Any:
    if isinstance(item.source, dict) or item.ready:
        raise UsageError("visualize is for pictures; this data holds the network's own input", file=item.id)
    return item.source


def _class_of(target: str | int, classifier: Classifier, count: int) -> int:
    from netferry.runtime.labelling import Labelling

    if isinstance(target, int) and 0 <= target < count:
        return target
    try:
        return Labelling(classifier.labels, None, count)(str(target), "")
    except UsageError as error:
        raise UsageError(f"{quoted(target)} is no class of the network", hint=error.hint) from None
