"""What is seen of a run while it goes on: a bar on the terminal, the plot redrawn, other loggers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.launching import first_process
from netferry.errors import MissingExtra, UsageError, quoted

if TYPE_CHECKING:
    from netferry.api.retraining_job import Job


@contextmanager
def following(job: Job) -> Iterator[tuple[Callable[..., None], Callable[[int], None] | None]]:
    """Give what training calls after each validation and after each iteration.

    Raises:
        MissingExtra: a logger's package is not installed.
    """
    from netferry.runtime.training.objective import METRICS
    from netferry.runtime.training.plots import draw_progress
    from netferry.runtime.training.state import RunFolder, Standing

    metric = METRICS[job.sets.task]
    targets = len(job.sets.targets(0))
    per_epoch = _per_epoch(job, targets)
    title = f"{job.target.name}: {job.sets.name}"
    with _bar(job, per_epoch * job.options.epochs) as bar:
        loggers = _loggers(job) if first_process() else {}
        sent = [0]

        def notify(run: RunFolder, standing: Standing) -> None:
            last = run.rows[-1]
            if bar is not None:
                bar.say(metric, last)
            if run.path is not None and run.due("plot"):
                started = time.monotonic()
                draw_progress(run.rows, run.path / "progress.png", metric, per_epoch, title=title)
                run.timed("plot", time.monotonic() - started)
            for row in run.rows[sent[0] :]:
                for name, logger in list(loggers.items()):
                    numbers = {k: float(v) for k, v in row.items() if v is not None and k != "iteration"}
                    try:
                        logger.log_metrics(numbers, step=int(row["iteration"] or 0))
                    except Exception as error:  # somebody else's server may go away; the training goes on
                        del loggers[name]
                        text = f"the logger {name} failed at iteration {row['iteration']}"
                        job.notes.append(f"{text} and was left out from there on: {quoted(error)[1:-1]}")
            sent[0] = len(run.rows)

        yield notify, None if bar is None else bar.tick
        for logger in loggers.values():
            logger.finalize("success")


def _per_epoch(job: Job, count: int) -> int:
    from netferry.runtime.training.batches import Order

    return Order(count, job.options.batch_size * job.options.accumulate, job.options.seed).per_epoch


class _Bar:
    """A progress bar on stderr with the latest figures."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress, self.task = progress, progress.add_task("training", total=total, said="")

    def tick(self, done: int) -> None:
        """An iteration is done."""
        self.progress.update(self.task, completed=done)

    def say(self, metric: str, row: dict[str, Any]) -> None:
        """Show the figures of a validation."""
        said = f"loss {row['training_loss']:.3f}"
        if row["validation_loss"] is not None:
            said += f" · validation loss {row['validation_loss']:.3f} {metric} {row['validation_figure']:.3f}"
        self.progress.update(self.task, said=said)


@contextmanager
def _bar(job: Job, total: int) -> Iterator[_Bar | None]:
    if not (job.options.verbose and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, total)


def _loggers(job: Job) -> dict[str, Any]:
    """Lightning's loggers by name; each is given the same rows as history.csv.

    MLflow's goes to the server that MLFLOW_TRACKING_URI names, else into a database in the run's folder.

    Raises:
        MissingExtra: a logger's package is not installed.
        UsageError: it cannot start: no such server, nobody is logged in.
    """
    made: dict[str, Any] = {}
    for name in job.options.loggers:
        import importlib

        from netferry.runtime.training.trainer import quiet

        module = importlib.import_module("lightning.pytorch.loggers")
        folder = (job.folder / name).absolute()
        options: dict[str, Any] = {
            "tensorboard": {"save_dir": folder, "name": "", "version": ""},
            "mlflow": {"experiment_name": job.target.stem, **_mlflow_place(folder)},
            "wandb": {"project": job.target.stem, "save_dir": folder},
        }[name]
        kind = {"tensorboard": "TensorBoardLogger", "mlflow": "MLFlowLogger", "wandb": "WandbLogger"}[name]
        try:
            with quiet():
                logger = getattr(module, kind)(**options)
                logger.log_hyperparams(job.options.as_dict())
        except ModuleNotFoundError:
            missing = MissingExtra(name, "log", f"the logger {name}")
            if name != "tensorboard":  # these two bring many packages, so no extra has them
                missing.hint = f"pip install {name}"
            raise missing from None
        except Exception as error:
            hint = "MLFLOW_TRACKING_URI, WANDB_MODE and the like are read by the logger itself"
            raise UsageError(f"the logger {name} cannot start: {quoted(error)[1:-1]}", hint=hint) from error
        made[name] = logger
    return made


def _mlflow_place(folder: Path) -> dict[str, str]:
    """MLflow 3 keeps no runs in plain folders any more."""
    if known := os.environ.get("MLFLOW_TRACKING_URI"):
        return {"tracking_uri": known}
    folder.mkdir(parents=True, exist_ok=True)
    return {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "artifact_location": (folder / "artifacts").as_uri()}
