"""``verify``: a source and the ONNX file made from it, on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netferry.api.reading import StrPath


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
    files run in Keras 3, older ones in tf_keras, Caffe and Darknet nets in OpenCV 4, TensorFlow models in TensorFlow,
    each in a child process. Inputs are fed at batch 1 and 3, with two sizes of every other dynamic dimension.

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
    from netferry.api.verification import compare_files
    from netferry.runtime.agreement import Tolerance

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
