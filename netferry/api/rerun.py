"""A model run before and after a change, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.api.made_pictures import pictures_of, scale_of_pixels
from netferry.errors import CheckFailed, LimitExceeded, UsageError
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note

if TYPE_CHECKING:
    from netferry.runtime.budget import Budget
    from netferry.runtime.session import Port
    from netferry.runtime.sides import OnnxSide

_REFERENCE_WORK = 1e9
"""multiply-adds of one run that are left to onnx.reference, which takes seconds for as many"""
_ITEM_WORK, _ITEMS = 1e9, (2, 8)
"""multiply-adds that the input of many items may take; how many items it has"""
HINT = "--check structure leaves the runs out"


class Rerun:
    """Runs the original now, and what was made of it later; see :func:`rerun_of`.

    Attributes:
        progress: called with the number of mixes of precisions that have been measured.
        by_reference: onnxruntime does not run the model, onnx.reference does.
        why: what onnxruntime says, where it does not.
    """

    def __init__(
        self,
        model: Model,
        save: Callable[[Model, Path], Any],
        folder: Path,
        kind: ir.DataType | None,
        budget: Budget | None = None,
    ) -> None:
        from netferry.runtime.sides import OnnxSide
        from netferry.runtime.vocabulary import declared

        self._save, self._folder, self._kind, self._budget = save, folder, kind, budget
        self.progress: Callable[[int], None] | None = None
        save(model, folder / "before.onnx")
        side = self._before = OnnxSide(folder / "before.onnx", budget=budget)
        if side.why is not None and (work := multiply_adds_of(model)) > _REFERENCE_WORK:
            why = f"onnxruntime does not run it ({side.why})"
            raise CheckFailed(f"{why}, and {work:.2g} multiply-adds are too many for onnx.reference")
        self._inputs, self._model = declared(side.inputs, model), model
        self.feeds = [self._feed(batch, 0) for batch in (1, 2)]
        self.wanted = [self._outputs(side, feed) for feed in self.feeds]
        self.why = side.why
        self.by_reference = side.why is not None

    def _feed(self, batch: int, seed: int) -> dict[str, np.ndarray]:
        from netferry.runtime.verify import seeded_inputs
        from netferry.runtime.vocabulary import index_bounds, map_keys

        graph = self._model.graph
        made = seeded_inputs(self._inputs, batch, seed, highs=index_bounds(graph), keys=map_keys(graph))
        return {n: self._held(v) for n, v in pictures_of(self._model, self._inputs, made, seed).items()}

    def _held(self, value: Any) -> Any:
        """A value as the type of the inputs holds it."""
        if self._kind is None or not isinstance(value, np.ndarray) or value.dtype != np.float32:
            return value
        return value.astype(self._kind.numpy()).astype(np.float32)

    def _outputs(self, side: OnnxSide, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outcome = side.run([feed])[0]
        if outcome.error is not None:
            raise CheckFailed(outcome.error)
        return outcome.outputs

    def after(self, changed: Model) -> dict[str, dict[str, Any]]:
        """Return per output how far a changed model is from the original, the worst over the inputs."""
        from netferry.runtime.sides import OnnxSide

        self._save(changed, self._folder / "after.onnx")
        side = OnnxSide(self._folder / "after.onnx", budget=self._budget)
        return _worst((self._outputs(side, feed), want) for feed, want in zip(self.feeds, self.wanted, strict=False))

    # half precision ----------------------------------------------------------------------------------------------

    def half(self, changed: Model, *, processor: bool) -> tuple[str, float]:
        """Return the output of a half-precision model that is furthest off, and by how much of its largest value.

        The model runs with every rounding, which onnxruntime's processor alone leaves out.

        Args:
            processor: run it as onnxruntime's processor does too, where it can.
        """
        import onnx

        from netferry.runtime.emulate import rounding
        from netferry.runtime.sides import OnnxSide

        path = self._folder / "after.onnx"
        self._save(changed, path)
        ways = [rounding(onnx.load(path), by_reference=self.by_reference)]
        if processor and not self.by_reference and (side := OnnxSide(path, budget=self._budget)).why is None:
            ways.append(lambda feed: self._outputs(side, _of_types(feed, side.inputs)))
        self._all_wanted()
        rows = _worst((run(feed), want) for run in ways for feed, want in zip(self.feeds, self.wanted, strict=True))
        if not rows:
            return "", 0.0
        name = max(rows, key=lambda name: rows[name]["max_rel"])
        return name, float(rows[name]["max_rel"])

    def switched(
        self, changed: Model, weights: Mapping[str, np.ndarray], parts: Mapping[str, int], inserted: set[str]
    ) -> Measure:
        """Return what measures any mix of precisions of a half-precision model."""
        import onnx

        from netferry.runtime.switched import Switched

        path = self._folder / "half.onnx"
        self._save(changed, path)
        self._all_wanted()
        session = Switched(onnx.load(path), weights, parts, inserted, by_reference=self.by_reference)
        return Measure(session, self.feeds, self.wanted, self.progress)

    def _all_wanted(self) -> None:
        """Half precision is compared on one more input, as many items as a small network runs in no time, and on one of
        [-1, 1) for pictures of a range that neither recipe nor graph tells."""
        if len(self.feeds) > 2:
            return
        least, most = _ITEMS
        items = int(min(most, max(least, _ITEM_WORK / max(1, multiply_adds_of(self._model)))))
        feed, drawn_anew = self._feed(items, 1), False
        self.feeds.append(dict(feed))
        for name, value in feed.items():
            recipe = self._model.preprocessing.get(name)
            told = recipe is not None and (recipe.mean or recipe.scale or recipe.mean_image is not None)
            told = told or scale_of_pixels(self._model, name) is not None
            if not told and getattr(value, "ndim", 0) == 4 and value.dtype.kind == "f":
                drawn = np.random.default_rng(1).uniform(-1, 1, value.shape)  # pictures of a range that nothing tells
                feed[name], drawn_anew = self._held(drawn.astype(value.dtype)), True
        if drawn_anew:
            self.feeds.append(feed)
        self.wanted += [self._outputs(self._before, feed) for feed in self.feeds[2:]]


class Measure:
    """How far mixes of precisions are from the original."""

    def __init__(
        self, switched: Any, feeds: Sequence[Any], wanted: Sequence[Any], progress: Callable[[int], None] | None
    ) -> None:
        self._switched, self._feeds, self._wanted, self._progress = switched, feeds, wanted, progress
        self._worst: int | None = None

    def alone(self, half: np.ndarray) -> float:
        """On the input where all in half precision is furthest off, with every rounding: infinite where the outputs
        are no numbers any more."""
        if self._worst is None:
            errors = [self._error(np.ones_like(half), [n], (True,)) for n in range(len(self._feeds))]
            self._worst = int(np.argmax(errors))
        return self._error(half, [self._worst], (True,))

    def apart(self, half: np.ndarray) -> float:
        """On all inputs, with every rounding and with those of the weights alone."""
        return self._error(half, range(len(self._feeds)), (True, False))

    def _error(self, half: np.ndarray, cases: Sequence[int], ways: Sequence[bool]) -> float:
        if self._progress is not None:
            self._progress(1)
        rows = _worst(
            (self._switched.run(self._feeds[n], half, rounding=rounding), self._wanted[n])
            for n in cases
            for rounding in ways
        )
        return max((float(row["max_rel"]) for row in rows.values()), default=0.0)


def rerun_of(
    model: Model,
    save: Callable[[Model, Path], Any],
    folder: Path,
    *,
    kind: ir.DataType | None = None,
    progress: Callable[[int], None] | None = None,
    budget: Budget | None = None,
) -> Rerun | None:
    """Run a model; None where nothing can be: no onnxruntime, no weights, or no values for its inputs (with a note).

    Where onnxruntime refuses the model (operators that it lacks), onnx.reference runs it, if it is small.

    Args:
        kind: float32 inputs get values that this type holds exactly: the inputs of what the model becomes.
        progress: called with the number of mixes of precisions that have been measured.
        budget: what one run may take.

    Raises:
        CheckFailed: neither runs it.
        LimitExceeded: a run takes more than the budget.
    """
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None or model.placeholders() or model.uninitialised:
        return None
    try:
        rerun = Rerun(model, save, folder, kind, budget)
        rerun.progress = progress
        return rerun
    except LimitExceeded as error:
        raise LimitExceeded(error.reason, file=_file(model), hint=error.hint) from None
    except UsageError as error:  # a type that no values are known for
        model.notes.append(Note("warning", f"not compared by runs before and after: {error.reason}"))
        return None
    except CheckFailed as error:
        if not all(isinstance(value.type, ir.TensorType) for value in model.graph.inputs):
            model.notes.append(Note("warning", f"not compared by runs before and after: {error.reason}"))
            return None  # values that are made up for sequences and maps need not fit
        reason = f"the model cannot be run before it is changed: {error.reason}"
        raise CheckFailed(reason, file=_file(model), hint=HINT) from error


def multiply_adds_of(model: Model) -> int:
    """Return the multiply-adds of a run at batch 1; what is unknown counts as none, dynamic sizes as 1."""
    from netferry.converters.passes.opset_types import annotate
    from netferry.schemas.costs import multiply_adds

    model = model.copy()
    annotate(model.ir)

    def shape_of(value: ir.Value) -> tuple[int, ...] | None:
        return None if value.shape is None else tuple(d if isinstance(d, int) else 1 for d in value.shape)

    return sum(multiply_adds(node, shape_of) or 0 for node in model.graph)


def _file(model: Model) -> str | None:
    return model.source.files[0] if model.source.files else None


def _worst(pairs: Any) -> dict[str, dict[str, Any]]:
    from netferry.runtime.verify import compare

    worst: dict[str, dict[str, Any]] = {}
    for got, want in pairs:
        for name, row in compare(got, want).items():
            if name not in worst or not row["max_rel"] <= worst[name]["max_rel"]:
                worst[name] = row
    return worst


def _of_types(feed: Mapping[str, np.ndarray], ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """Inputs in the types that a changed model takes."""
    kinds = {port.name: port.numpy for port in ports}
    return {n: v if kinds.get(n) is None else np.asarray(v).astype(kinds[n], copy=False) for n, v in feed.items()}
