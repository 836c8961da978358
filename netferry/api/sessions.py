"""``session``: a network of any format, ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath
from netferry.api.remote import Transfers

if TYPE_CHECKING:
    from netferry.runtime.session import Session
    from netferry.schemas.model import Model


def session(
    source: StrPath | Model,
    *,
    weights: StrPath | None = None,
    device: str = "auto",
    threads: int | None = None,
    cuda_graph: bool | None = None,
    warm_up: int | None = None,
    **reading: Any,
) -> Session:
    """Return a session on a network: ``session.run({"data": array})`` gives its outputs by name.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        device: ``auto`` (a GPU that works, else the processor), ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``,
            ``openvino`` …; ``session.device`` says which one is used. One that was asked for is used, or refused with
            the cause.
        threads: of one run on the processor.
        cuda_graph: record the launches of a run per combination of input shapes and replay them; None does so on CUDA
            where the network fixes all shapes.
        warm_up: run once on zeros of this batch size, so that the first real run is as fast as the others.

    Raises:
        DeviceError: the device cannot be used; says why and how to mend it.
        NetferryError: the network cannot be read or run.
    """
    from netferry.runtime.session import Session

    with Transfers() as files, as_onnx(files.input(source), files.input(weights), reading) as path:
        made = Session(path, device, threads, cuda_graph=cuda_graph)
    if warm_up is not None:
        made.warm_up(warm_up)
    return made
