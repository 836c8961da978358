"""Static int8 quantization by onnxruntime: QDQ form, one scale per channel, calibrated on given inputs."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import CheckFailed, MissingExtra, UsageError
from netferry.runtime.session import Session
from netferry.runtime.verify import compare
from netferry.schemas.publish import temporary_folder, whole

Feeds = Mapping[str, np.ndarray]
Score = Callable[[Session], float]
"""How good a model is, higher is better: accuracy between 0 and 1"""
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
_ONE_FILE = 1_800_000_000


@dataclass(frozen=True)
class Quantized:
    """What quantizing cost."""

    file: Path
    bytes_before: int
    bytes_after: int
    samples: int
    difference: dict[str, float]
    """per output the largest difference over the largest magnitude, on the calibration inputs"""
    agreement: dict[str, float] | None
    """per output with classes the share of inputs whose first class stays"""
    score_before: float | None
    score_after: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**self.__dict__, "file": str(self.file)}


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    calibration: Iterable[Feeds],
    *,
    max_drop: float = 0.01,
    score: Score | None = None,
    operators: Sequence[str] | None = None,
    keep_nodes: Sequence[str] = (),
    samples: int = 256,
    method: str = "minmax",
) -> Quantized:
    """Write the int8 model of an ONNX file, unless it is worse than allowed.

    The model is taken as it is: BatchNormalization that is not folded into its convolution stays in float32.

    Args:
        source: a float32 model, opset 13 or above, its nodes with names.
        target: the file to write; it appears only where the drop is allowed.
        calibration: feeds as the session takes them, with batches of any size; at most ``samples`` are used.
        max_drop: how far ``score`` may fall (0.01: one point); without a score, the share of calibration inputs whose
            first class may change (for outputs with classes), else the largest relative difference allowed.
        score: measures a loaded model; called on the original and on the quantized one.
        operators: operators to quantize; onnxruntime's choice by default.
        keep_nodes: names of nodes that stay float32.
        samples: most feeds to calibrate with.
        method: how the range of an activation is found: ``minmax``, ``entropy`` or ``percentile``.

    Raises:
        UsageError: no calibration inputs, or no such method.
        CheckFailed: the quantized model is worse than ``max_drop`` allows; nothing is written.
        MissingExtra: onnxruntime (or what its quantizer needs) is not installed.
        OutputError: the file cannot be written.
    """
    if method not in METHODS:
        raise UsageError(f"calibration is {', '.join(METHODS)}, not {method!r}")
    feeds = [dict(f) for _, f in zip(range(samples), calibration, strict=False)]
    if not feeds:
        raise UsageError("quantizing needs calibration inputs, there are none")
    source, target = Path(source), Path(target)
    before = Session(source, "cpu")
    with temporary_folder() as folder:
        file = Path(folder) / "int8.onnx"
        _run(source, file, feeds, operators, keep_nodes, METHODS[method])
        after = Session(file, "cpu")
        difference, agreement = _apart(before, after, feeds)
        scores = (None, None) if score is None else (score(before), score(after))
        found = Quantized(
            target, source.stat().st_size, file.stat().st_size, len(feeds), difference, agreement, *scores
        )
        _judge(found, max_drop)
        with whole(target) as scratch:
            shutil.copyfile(file, scratch)
    return found


def _run(
    source: Path, file: Path, feeds: list[dict[str, np.ndarray]], operators: Sequence[str] | None,
    keep_nodes: Sequence[str], method: str,
) -> None:  # fmt: skip
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise MissingExtra(error.name or "onnxruntime", "cpu", "quantizing") from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray]:
            return next(self._left, None)  # type: ignore[return-value]  # None ends it, whatever the base class says

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):  # some methods print how far they are
            warnings.simplefilter("ignore")
            quantization.quantize_static(
                str(source),
                str(file),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(operators) if operators is not None else None,
                nodes_to_exclude=list(keep_nodes),
                calibrate_method=getattr(quantization.CalibrationMethod, method),
                use_external_data_format=source.stat().st_size > _ONE_FILE,
            )
    except Exception as error:  # onnxruntime's quantizer raises plain ValueError, RuntimeError and its own
        raise CheckFailed(
            f"onnxruntime cannot quantize the model: {' '.join(str(error).split())[:400]}", file=source
        ) from error
    finally:
        logger.setLevel(level)


def _apart(
    before: Session, after: Session, feeds: list[dict[str, np.ndarray]]
) -> tuple[dict[str, float], dict[str, float] | None]:
    """Largest relative difference per output, and the share of inputs whose first class stays."""
    worst: dict[str, float] = {}
    same: dict[str, list[bool]] = {}
    for feed in feeds:
        a, b = before.run(feed), after.run(feed)
        for name, found in compare(b, a).items():
            worst[name] = max(worst.get(name, 0.0), float(found["max_rel"]))
            if _has_classes(a[name]):
                first, second = (v[name].reshape(len(v[name]), -1).argmax(1) for v in (a, b))
                same.setdefault(name, []).extend((first == second).tolist())
    return worst, {name: float(np.mean(hits)) for name, hits in same.items()} or None


def _has_classes(array: np.ndarray) -> bool:
    """(N, C), or (N, C, 1, 1) as a pooled convolution gives it."""
    return (
        array.ndim >= 2 and array.shape[0] > 0 and array.dtype.kind == "f" and array[0].size == max(array.shape[1:]) > 1
    )


def _judge(found: Quantized, max_drop: float) -> None:
    if found.score_before is not None and found.score_after is not None:
        drop, what = found.score_before - found.score_after, "the score"
    elif found.agreement is not None:
        drop, what = 1 - min(found.agreement.values()), "agreement of the first class"
    else:
        drop, what = max(found.difference.values()), "agreement of the outputs"
    if not drop <= max_drop + 1e-12:
        raise CheckFailed(
            f"int8 costs {drop:.4g} of {what}, allowed are {max_drop:g}; nothing was written",
            file=found.file,
            hint="more calibration inputs, keep_nodes for sensitive layers, or a larger --max-drop",
        )
