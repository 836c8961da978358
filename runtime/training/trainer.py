"""Lightning's trainer as it is used here: devices, precision, processes that read, silence."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

import lightning.pytorch as pl
import torch

from netferry.errors import DeviceError
from netferry.runtime.training.examples import Examples
from netferry.runtime.training.options import TrainOptions


def readers(examples: Examples, gpu: bool) -> int:
    """How many processes read the examples: some for files beside a GPU, else none (threads do)."""
    if not gpu or not examples.read:
        return 0
    return max(1, min(8, (os.cpu_count() or 2) - 1))


def trainer_of(options: TrainOptions) -> pl.Trainer:
    """A trainer on the devices that the options name.

    Raises:
        DeviceError: they cannot be used.
    """
    accelerator = device_of(options.device)
    if options.precision == "16" and accelerator == "cpu":
        raise DeviceError("float16 (precision 16) is trained on GPUs only", hint="--precision bf16")
    distributed = options.devices * options.nodes > 1
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy="ddp" if distributed else "auto",
            precision={"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[options.precision],  # type: ignore[arg-type]
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"{options.devices} x {options.device}: {' '.join(str(error).split())[:300]}") from None


def device_of(name: str) -> str:
    """``cpu`` or ``gpu`` as Lightning calls them; ``auto`` is a GPU where there is one.

    Raises:
        DeviceError: no such device, or it cannot be used.
    """
    if name == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return "cpu"
    if name in ("cuda", "gpu"):
        if not torch.cuda.is_available():
            raise DeviceError("torch finds no GPU", hint="--device cpu, or a torch built for CUDA")
        return "gpu"
    raise DeviceError(f"training runs on cpu or cuda, not on {name!r}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's banners and its advice to use more workers off stderr."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero",
             "lightning.pytorch.accelerators.cuda")  # fmt: skip
    levels = [(logging.getLogger(n), logging.getLogger(n).level) for n in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger, _ in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)
