"""``netferry verify``: the same seeded inputs through a source and an ONNX file, and where they first differ."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.api.judges import judge_of
from netferry.api.old_files import RunnableOnnx
from netferry.api.verdict import finite, refusal, worst_rows
from netferry.errors import CheckFailed, UsageError, quoted
from netferry.runtime.agreement import Tap, Tolerance, difference, first_divergence
from netferry.runtime.sides import OnnxSide, Outcome, Side
from netferry.runtime.values import shown
from netferry.runtime.verify import free_sizes, seeded_inputs
from netferry.runtime.vocabulary import declared, index_bounds, map_keys

if TYPE_CHECKING:
    from netferry.schemas.layers import LayerRow
    from netferry.schemas.model import Model

BATCHES = (1, 3)
_MORE = {"time": 3, "pixels": 16, "other": 1}


class Comparison:
    """One comparison of a source with a candidate, an ONNX model made from it.

    Args:
        source: the source's files, architecture first; an ONNX file is run by onnxruntime, other formats by their
            framework.
        model: the source as netferry reads it (None for TensorFlow, where that would take long).
        kind: the source's format.
        candidate: path of the ONNX file, or its structure as bytes.
        graph: the candidate as netferry reads it.
        weights_folder: where the external weights of a candidate given as bytes lie.
        tolerance, seeds, sizes: see :func:`netferry.api.verify`.
        inputs_as_nchw: inputs that the conversion made channels-first.
        python: the interpreter that has the source's framework.
        seconds: what a run in the source's framework may take.
    """

    def __init__(
        self,
        source: Sequence[Path],
        model: Model | None,
        kind: str,
        candidate: Path | bytes,
        graph: Model,
        *,
        weights_folder: Path | None = None,
        tolerance: Tolerance,
        seeds: int = 2,
        sizes: Mapping[str, int] | None = None,
        inputs_as_nchw: Sequence[str] = (),
        outputs_as_nchw: Sequence[str] = (),
        python: str | None = None,
        seconds: float = 600,
    ) -> None:
        if seeds < 1:
            raise UsageError(f"at least one seed is needed, not {seeds}")
        self.source, self.model, self.kind, self.graph = list(source), model, kind, graph
        self.data, self.folder = candidate, weights_folder
        self.tolerance, self.seeds, self.sizes = tolerance, seeds, dict(sizes or {})
        self.as_nchw = list(inputs_as_nchw)
        self.any_layout = bool(outputs_as_nchw)
        if isinstance(candidate, Path):
            self._candidate = RunnableOnnx(candidate, graph)
            self.data, self.candidate = self._candidate.file, self._candidate.side
        else:
            self.candidate = OnnxSide(candidate, weights_folder)
        if kind == "onnx":
            assert model is not None
            self._source = RunnableOnnx(self.source[0], model)
            self.reference: Side = self._source.side
        else:
            self.reference = judge_of(
                kind, self.source, model, self.candidate, inputs_as_nchw=self.as_nchw, python=python, seconds=seconds
            )
        self.feeds: list[dict[str, np.ndarray]] = []

    def run(self, *, bisect: str = "no") -> dict[str, Any]:
        """Compare.

        Args:
            bisect: no, ``failed`` (look for the first diverging layer where the outputs differ) or ``always``.

        Returns:
            ``agrees``, ``source``, ``candidate`` (file, run_by), ``tolerance``, ``cases``, ``worst`` per output, and
            ``bisect``; a difference that is infinite is null.

        Raises:
            CheckFailed: the candidate does not run where the source does, or lacks outputs; or nothing could be run.
            MissingExtra: what runs the source is not installed.
        """
        made = self._cases()
        self.feeds = [feeds for _, feeds in made]
        wanted = self.reference.run(self.feeds)
        got = self.candidate.run(self.feeds)
        cases = [facts | self._compared(a, b) for (facts, _), a, b in zip(made, got, wanted, strict=True)]
        if all("skipped" in case for case in cases):
            raise CheckFailed(f"the source could not be run on any input: {cases[0]['skipped']}", file=self.source[0])
        failed = [n for n, case in enumerate(cases) if not case.get("agrees", True)]
        document: dict[str, Any] = {
            "agrees": not failed,
            "source": {"files": [str(f) for f in self.source], "format": self.kind, "run_by": self.reference.name},
            "candidate": {"run_by": self.candidate.name},
            "tolerance": {"atol": self.tolerance.atol, "rtol": self.tolerance.rtol},
            "cases": cases,
            "worst": worst_rows(cases),
        }
        if bisect == "always" or (bisect == "failed" and failed):
            ran = [n for n, case in enumerate(cases) if "skipped" not in case]
            document["bisect"] = self.bisect((failed or ran)[-1]) | {"case": (failed or ran)[-1]}
        return finite(document)

    def _cases(self) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """Every batch with two sizes of each dynamic dimension and every seed; odd seeds give negative values too."""
        ports = declared(self.candidate.inputs, self.graph)
        free = {n: s for n, s in free_sizes(ports).items() if n not in self.sizes}
        larger = {n: s + _MORE["pixels" if s >= 32 else "time" if s == 5 else "other"] for n, s in free.items()}
        variants = [free, larger] if free else [{}]
        highs, keys = index_bounds(self.graph.graph), map_keys(self.graph.graph)
        states = self._states()
        out: list[tuple[dict[str, Any], dict[str, np.ndarray]]] = []
        shapes: set[Any] = set()
        for seed, batch, variant in itertools.product(range(self.seeds), BATCHES, variants):
            sizes = {**variant, **self.sizes}
            feeds = seeded_inputs(ports, batch, seed, sizes, signed=bool(seed % 2), highs=highs, keys=keys)
            for name in states:
                feeds[name] = np.zeros_like(feeds[name])
            key = (seed, *(json.dumps(shown(v)) for v in feeds.values()))
            if key in shapes:
                continue  # a fixed batch
            shapes.add(key)
            facts = {"batch": batch, "seed": seed, "inputs": {n: shown(v) for n, v in feeds.items()}}
            out.append((facts, feeds))
        return out

    def _states(self) -> list[str]:
        """Inputs that the source does not have: the states of stateful layers, zero at first."""
        if self.kind != "keras":
            return []
        outputs = {p.name for p in self.candidate.outputs}
        return [p.name for p in self.candidate.inputs if f"{p.name}_out" in outputs]

    def _compared(self, got: Outcome, wanted: Outcome) -> dict[str, Any]:
        if wanted.error is not None:
            return {"skipped": wanted.error}
        if got.error is not None:
            raise CheckFailed(f"the source runs on these inputs, the ONNX model does not: {got.error}")
        rows: list[dict[str, Any]] = []
        for name, a, b in _paired(got.outputs, wanted.outputs):
            try:
                row = difference(a, b, any_layout=self.any_layout)
            except CheckFailed as error:
                raise CheckFailed(f"output {quoted(name)}: {error.reason} in the source") from None
            rows.append({"name": name, **row, "agrees": self.tolerance.allows(row)})
            del rows[-1]["float"]
        return {"outputs": rows, "agrees": all(row["agrees"] for row in rows)}

    # the first diverging layer ---------------------------------------------------------------------------------

    def bisect(self, case: int) -> dict[str, Any]:
        """Return the first layer that diverges on a case; see :func:`netferry.runtime.agreement.first_divergence`.

        Raises:
            UsageError: the source's framework does not show its layers.
        """
        if self.kind == "tensorflow":
            raise UsageError("layers of a TensorFlow source cannot be compared, its names do not survive tf2onnx")
        rows = [row for row in self.graph.layers if row.type != "Input"]
        names = [v.name for row in rows for v in row.outputs if v.name]
        if self.kind == "onnx":
            assert self.model is not None
            there = {v.name for row in self.model.layers for v in row.outputs}
            names = [n for n in names if n in there]
        feeds = [self.feeds[case]]
        got = _tapped(self.data, self.folder, names).run(feeds, 0)[0]
        side = _tapped(self._source.file, None, names) if self.kind == "onnx" else self.reference
        wanted = side.run(feeds, 0)[0]
        for outcome in (got, wanted):
            if outcome.error is not None:
                raise CheckFailed(f"with its layers shown the model does not run: {outcome.error}")
        reference = {n: [v] for n, v in wanted.outputs.items()} | wanted.taps if self.kind == "onnx" else wanted.taps
        values = {n: [v] for n, v in got.outputs.items()} | got.taps
        taps = list(_taps(rows, values, by_value=self.kind == "onnx"))
        return first_divergence(taps, reference, self.tolerance, reordered=self.kind == "keras")


def _tapped(model: Path | bytes, folder: Path | None, names: Sequence[str]) -> OnnxSide:
    """A model that also gives its layers' values; its weights stay in their files."""
    from netferry.converters.onnx.wire import OnnxFile
    from netferry.converters.options import Limits

    if isinstance(model, bytes):
        return OnnxSide(model, folder, names)
    path = model.absolute()
    with OnnxFile(path, Limits()) as file:
        return OnnxSide(file.structure(path.name), path.parent, names)


def _taps(rows: Sequence[LayerRow], values: Mapping[str, list[np.ndarray]], *, by_value: bool) -> list[Tap]:
    out: list[Tap] = []
    for row in rows:
        names = [v.name or "" for v in row.outputs]
        held = [(name, values[name]) for name in names if name in values]
        reads = tuple(row.inputs)
        if by_value:
            out.extend(Tap(row.name, row.type, arrays, name, reads) for name, arrays in held)
        elif held:
            out.append(Tap(row.name, row.type, [a for _, arrays in held for a in arrays], row.name, reads))
    return out


def _paired(
    got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Outputs of both sides: by name where the names are the same, else in order; further ones of the candidate
    (states) have no partner."""
    if set(wanted) <= set(got):
        return [(name, got[name], wanted[name]) for name in wanted]
    if len(got) < len(wanted):
        raise CheckFailed(f"the source has {len(wanted)} outputs, the ONNX model {len(got)}")
    return [(name, a, b) for (name, a), b in zip(got.items(), wanted.values(), strict=False)]


def compare_files(
    source: list[Path], candidate: Path, reading: Mapping[str, Any], *, bisect: bool, **options: Any
) -> dict[str, Any]:
    """The work of :func:`netferry.api.verify`."""
    from netferry.api import load
    from netferry.converters.formats import by_name, detect

    kind = (by_name(reading["format"]) if reading.get("format") else detect(source[0])).name
    graph = load(candidate, format="onnx")
    model = None if kind == "tensorflow" else load(*source, **reading)
    comparison = Comparison(
        source, model, kind, candidate, graph,
        inputs_as_nchw=reading.get("inputs_as_nchw", ()), outputs_as_nchw=reading.get("outputs_as_nchw", ()), **options,
    )  # fmt: skip
    document = comparison.run(bisect="always" if bisect else "no")
    document["candidate"]["file"] = str(candidate)
    return document


def verifier_of(
    source: list[Path], model: Model, reading: Mapping[str, Any], found: list[dict[str, Any]]
) -> Callable[..., None]:
    """Return what ``convert --verify`` asks of a finished file before it takes its place; the facts go to ``found``.

    Raises (when called):
        CheckFailed: the results differ; names the first diverging layer.
    """
    kind = model.source.format

    def verifier(file: Path | bytes, *, weights_folder: Path | None = None) -> None:
        comparison = Comparison(
            source, None if kind == "tensorflow" else _source_model(source, model, reading), kind, file, model,
            weights_folder=weights_folder, tolerance=Tolerance(),
            inputs_as_nchw=reading.get("inputs_as_nchw", ()), outputs_as_nchw=reading.get("outputs_as_nchw", ()),
        )  # fmt: skip
        document = comparison.run(bisect="no" if kind == "tensorflow" else "failed")
        if not document["agrees"]:
            raise refusal(document)
        found.append({k: document[k] for k in ("source", "candidate", "tolerance", "worst")} | _ran(document["cases"]))

    return verifier


def _source_model(source: list[Path], model: Model, reading: Mapping[str, Any]) -> Model:
    """The source as read: the model at hand, but for ONNX, whose names may have changed on the way to another opset."""
    if model.source.format != "onnx":
        return model
    from netferry.api import load

    return load(*source, **reading)


def _ran(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ran = [{k: case[k] for k in ("batch", "seed", "inputs")} for case in cases if "skipped" not in case]
    return {"runs": ran, "skipped": len(cases) - len(ran)}
