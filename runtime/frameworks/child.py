"""A source framework in a child process: inputs go in and outputs come back as arrays in a temporary folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import MissingExtra, UnsafeFile, UnsupportedError, quoted
from netferry.runtime.sides import Outcome
from netferry.schemas.publish import temporary_folder

_EXTRAS = {"opencv": "opencv", "darknet": "opencv", "keras": "tensorflow", "tensorflow": "tensorflow"}


@dataclass(frozen=True)
class Framework:
    """A source file and the framework that judges it.

    Args:
        script: darknet, keras, opencv or tensorflow: which ``run_*.py`` runs it.
        request: what the script needs to know beside the cases; ``files`` at least.
        python: the interpreter that has the framework; this one by default.
        seconds: the child is ended after that.
    """

    script: str
    request: Mapping[str, Any]
    python: str | None = None
    seconds: float = 600
    name: str = field(default="", init=False)

    def run(self, cases: Sequence[Mapping[str, np.ndarray]], tap: int | None = None) -> list[Outcome]:
        """Run all cases in one child; with ``tap`` that case's outcome also holds what the layers give.

        Raises:
            MissingExtra: the framework is not installed there.
            UnsafeFile: the file holds code, which is not run.
            UnsupportedError: the framework does not read the file, dies or takes too long.
        """
        files = self.request["files"]
        with temporary_folder() as name:
            folder = Path(name)
            arrays = {f"{n}:{i}": _plain(v) for n, case in enumerate(cases) for i, v in enumerate(case.values())}
            request = {**self.request, "cases": [list(case) for case in cases], "tap": tap}
            (folder / "request.json").write_text(json.dumps(request), "utf-8")
            np.savez(folder / "inputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
            said = self._start(folder)
            try:
                result = json.loads((folder / "result.json").read_text("utf-8"))
            except (OSError, ValueError):
                raise UnsupportedError(f"the child with {self.script} died: {_last(said)}", file=files[0]) from None
            if "missing" in result:
                extra = _EXTRAS[self.script]
                raise MissingExtra(result["missing"], extra, "running the source in its own framework").at(
                    file=files[0]
                )
            if "refused" in result:
                raise UnsafeFile(quoted(result["refused"], 600)[1:-1], file=files[0])
            if "failed" in result:
                reason = f"its own framework does not run it: {quoted(result['failed'], 600)[1:-1]}"
                raise UnsupportedError(reason, file=files[0], hint=result.get("hint"))
            object.__setattr__(self, "name", str(result["framework"]))
            with np.load(folder / "outputs.npz", allow_pickle=False) as made:
                return [_outcome(n, case, result, made, tap) for n, case in enumerate(result["cases"])]

    def _start(self, folder: Path) -> str:
        script = Path(__file__).with_name(f"run_{self.script}.py")
        calm = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
        log = folder / "log.txt"
        with log.open("wb") as out:
            try:
                subprocess.run(
                    [self.python or sys.executable, str(script), str(folder)],
                    cwd=folder, env=os.environ | calm, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    timeout=self.seconds, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                reason = f"the child with {self.script} was ended after {self.seconds:g} seconds"
                raise UnsupportedError(reason, hint="--timeout gives it more", file=self.request["files"][0]) from None
            except OSError as error:
                raise MissingExtra(
                    self.python or "python", _EXTRAS[self.script], f"the source's framework ({error.strerror})"
                ) from None
        return log.read_text("utf-8", "replace")


def _outcome(number: int, case: Mapping[str, Any], result: Mapping[str, Any], made: Any, tap: int | None) -> Outcome:
    if "error" in case:
        return Outcome({}, error=quoted(case["error"], 600)[1:-1])
    outputs = {name: made[f"{number}:{i}"] for i, name in enumerate(case["outputs"])}
    taps: dict[str, list[np.ndarray]] = {}
    if number == tap:
        taps = {n: [made[f"tap:{n}:{i}"] for i in range(count)] for n, count in result["taps"].items()}
    return Outcome(outputs, taps=taps)


def _plain(array: np.ndarray) -> np.ndarray:
    """Strings as fixed-width text: arrays of objects would need pickle."""
    return array.astype(str) if array.dtype.kind == "O" else array


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return quoted(lines[-1] if lines else "it says nothing", 400)[1:-1]
