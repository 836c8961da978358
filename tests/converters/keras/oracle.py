"""The judge: real Keras in a child process, and the comparison of what our graph gives with what it gives."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of, array_tensor

MAKER = Path(__file__).with_name("maker.py")


def tensorflow_python() -> str | None:
    """The interpreter that has tensorflow: the one NETFERRY_TF_PYTHON names, or this one."""
    named = os.environ.get("NETFERRY_TF_PYTHON")
    if named:
        return named if shutil.which(named) else None
    return sys.executable if importlib.util.find_spec("tensorflow") else None


class Keras:
    """One generation of Keras in a child process that stays for the session."""

    def __init__(self, generation: int) -> None:
        python = tensorflow_python()
        if python is None:
            pytest.skip("needs tensorflow with tf_keras and keras (here, or in NETFERRY_TF_PYTHON)")
        self.generation = generation
        self._child = subprocess.Popen(
            [python, str(MAKER), str(generation)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask for a model, whose answer may hold an ``error``; see maker.py for the fields."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        timer = threading.Timer(900, self._child.kill)
        timer.start()
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            pytest.fail(f"the child with Keras {self.generation} died")
        return json.loads(line)

    def make(self, **request: Any) -> dict[str, Any]:
        """Build one model; what Keras refuses is a failure."""
        answer = self.ask(**request)
        if "error" in answer:
            pytest.fail(f"Keras {self.generation} cannot make the model:\n{answer['error']}")
        return answer

    def close(self) -> None:
        """End the child."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        self._child.wait(60)
        if self._child.stdout is not None:
            self._child.stdout.close()


@dataclass
class Result:
    """A converted case: the model, its file, the largest relative error."""

    model: Model
    proto: onnx.ModelProto
    error: float

    @property
    def operators(self) -> list[str]:
        """Operator types in graph order."""
        return [n.op_type for n in self.proto.graph.node]


def in_memory(model: Model) -> onnx.ModelProto:
    """Return the model as one protobuf, all weights inside."""
    for name, value in model.graph.initializers.items():
        array = array_of(value)
        if array is not None:
            value.const_value = array_tensor(array, name)
    return ir.to_proto(model.ir)


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session over the checked model."""
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def counted(model: Model) -> tuple[int, int]:
    """Numbers that learn and numbers that do not: running statistics, and all that is frozen."""
    both = {**model.parameters(Role.LEARNABLE), **model.parameters(Role.STATE)}
    sizes = {name: int(np.prod(value.shape)) for name, value in both.items()}  # pyright: ignore
    fixed = {*model.parameters(Role.STATE), *model.frozen}
    return sum(n for k, n in sizes.items() if k not in fixed), sum(n for k, n in sizes.items() if k in fixed)


class Case:
    """Makes, converts and compares one row."""

    def __init__(self, keras: Keras, folder: Path) -> None:
        self.keras, self.folder = keras, folder

    def __call__(
        self,
        model: str,
        *shapes: tuple[int | None, ...],
        dtypes: tuple[str, ...] | None = None,
        tolerance: float = 1e-5,
        length: int = 6,
        scale: float = 2.0,
        low: int = 0,
        high: int = 8,
        zeros: bool = False,
        nested: bool = False,
        counts: bool = True,
        options: dict[str, Any] | None = None,
        words: tuple[str, ...] = (),
        kinds: tuple[str, ...] = ("h5", "json", "keras"),
    ) -> Result:
        """Build ``model`` (an expression over L, keras, x, xs) and demand agreement.

        All ways of saving (``kinds``) must give one graph, with Keras's values at batch 1 and 3 (dynamic lengths differ
        too), and as many learnables and state values as Keras counts.
        """
        facts = self.keras.make(
            model=model, shapes=shapes, dtypes=dtypes or ("float32",) * len(shapes), folder=str(self.folder), seed=7,
            length=length, scale=scale, low=low, high=high, zeros=zeros, nested=nested, words=words, kinds=kinds,
        )  # fmt: skip
        reading = options or {}
        models = {k: read(self.folder / f"model.{k}", ReadOptions(**reading)) for k in kinds if k != "json"}
        if "json" in kinds:
            weights = self.folder / facts["weights"]
            models["json"] = read(self.folder / "model.json", ReadOptions(weights=weights, **reading))
        first = models.pop(kinds[0])
        assert not first.placeholders(), [n.op_type for n in first.placeholders()]
        proto = in_memory(first)
        plain = proto.SerializeToString(deterministic=True)
        for kind, other in models.items():
            assert in_memory(other).SerializeToString(deterministic=True) == plain, f"{kind} gives another graph"
        if counts:
            got, wanted = counted(first), (facts["learnable"], facts["state"])
            assert got == wanted, f"learnable and fixed numbers: {got}, Keras counts {wanted}"
        error = self.compare(proto, tolerance)
        return Result(first, proto, error)

    def compare(self, proto: onnx.ModelProto, tolerance: float) -> float:
        """Return the largest relative difference from what Keras computed; refuse more than ``tolerance``."""
        runner = session(proto)
        arrays = dict(np.load(self.folder / "case.npz"))
        names = [i.name for i in runner.get_inputs()]
        worst = 0.0
        for batch in (1, 3):
            given = [arrays[f"{batch}:in{i}"] for i in range(len(names))]
            given = [a.astype(object) if a.dtype.kind == "U" else a for a in given]
            got = runner.run(None, dict(zip(names, given, strict=True)))
            wanted = [arrays[k] for k in sorted(arrays) if k.startswith(f"{batch}:out")]
            assert len(got) == len(wanted)
            for made, want in zip(map(np.asarray, got), wanted, strict=True):
                assert made.shape == want.shape
                if want.size == 0:
                    continue
                if want.dtype.kind != "f":
                    assert np.array_equal(made, want)
                    continue
                assert np.array_equal(np.isnan(made), np.isnan(want))
                assert np.array_equal(np.isinf(made), np.isinf(want))
                finite = np.isfinite(want)
                if not finite.any():
                    continue
                scale = max(float(np.abs(want[finite]).max()), 1e-6)
                worst = max(worst, float(np.abs(made[finite] - want[finite]).max()) / scale)
        assert worst <= tolerance, f"largest difference {worst:.2e} of the largest value"
        return worst
