"""netferry's modules beside plain torch classes on a device: parity, and training steps a second.

``python -m benchmarks.torch_gpu [--device cuda] [--batch 64] [--size 224] [--out benchmarks/results/torch_gpu.json]``:
ResNet50, MobileNetV2 and DenseNet121 of :mod:`benchmarks.torch_natives`, through ONNX and back. For float32 and for
bfloat16 under autocast, eager and compiled, both sides do the same training steps (loss, gradients, SGD) in turn,
channels last. Parity is the largest difference of the outputs, and of the gradients of the first step, relative to
the largest value of each tensor; in float32 TensorFloat-32 is off for it. ``--device cpu`` with a small size shows that
the script works.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torch_natives import NATIVES, as_onnx
from netferry import api

MODES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BOUNDS = {"float32": 1e-4, "bfloat16": 5e-2}
"""largest relative difference of outputs: a bfloat16 has 8 bits, and 50 layers round after each other"""


def pair(name: str, device: str) -> tuple[nn.Module, nn.Module]:
    """A network in plain torch, and the same through ONNX: equal weights, apart."""
    torch.manual_seed(0)
    native = NATIVES[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(as_onnx(native))
        module = api.to_torch(api.load(path))
    for norm in module.modules():  # ONNX keeps 1e-5 in 32 bits
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-5
    sides: list[Any] = [module.to(device), native.to(device)]
    return sides[0].to(memory_format=torch.channels_last), sides[1].to(memory_format=torch.channels_last)


def loss_of(module: nn.Module, x: Tensor, target: Tensor, kind: torch.dtype) -> Tensor:
    """Cross entropy; under autocast where the type is not float32."""
    with torch.autocast(x.device.type, kind, enabled=kind is not torch.float32):
        made = module(x)
    return nn.functional.cross_entropy(made.float(), target)


def parity(sides: tuple[nn.Module, nn.Module], x: Tensor, target: Tensor, kind: torch.dtype) -> dict[str, float]:
    """Largest relative differences of outputs in eval mode, and of gradients in training mode."""
    outputs, gradients = [], []
    for module in sides:
        state = {k: v.clone() for k, v in module.state_dict().items()}
        with torch.no_grad(), torch.autocast(x.device.type, kind, enabled=kind is not torch.float32):
            outputs.append(module.eval()(x).float())
        module.zero_grad()
        loss_of(module.train(), x, target, kind).backward()
        gradients.append({k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None})
        module.zero_grad()
        module.load_state_dict(state)
    found = max(_apart(a, gradients[1][k]) for k, a in gradients[0].items())
    return {"outputs": _apart(*outputs), "gradients": found}


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def stepper(module: nn.Module, x: Tensor, target: Tensor, kind: torch.dtype) -> Callable[[], None]:
    """A training step: loss, all gradients, SGD."""
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(module, x, target, kind).backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """Wall time of some steps, the device's work included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return time.perf_counter() - started


def throughput(steps: dict[str, Callable[[], None]], rounds: int, count: int, device: str) -> dict[str, float]:
    """Median steps a second of both sides, taken in turn after a warm-up, and the median of the rounds' ratios."""
    for step in steps.values():
        seconds(step, 3, device)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds):
        for name in sorted(steps, reverse=bool(i % 2)):
            times[name].append(seconds(steps[name], count, device) / count)
    ratio = statistics.median(b / a for a, b in zip(times["netferry"], times["native"], strict=True))
    return {**{name: 1 / statistics.median(found) for name, found in times.items()}, "ratio": ratio}


def measured(name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one network."""
    rows: list[dict[str, Any]] = []
    torch.manual_seed(1)
    x = torch.randn(given.batch, 3, given.size, given.size, device=given.device)
    x = x.contiguous(memory_format=torch.channels_last)
    target = torch.randint(1000, (given.batch,), device=given.device)
    for mode, kind in MODES.items():
        sides = pair(name, given.device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        apart = parity(sides, x, target, kind)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        for how in ("eager", "compiled"):
            if how == "compiled" and given.no_compile:
                continue
            torch.compiler.reset()
            ready: list[Any] = [m.train() if how == "eager" else torch.compile(m.train()) for m in sides]
            steps = {n: stepper(m, x, target, kind) for n, m in zip(("netferry", "native"), ready, strict=True)}
            speed = throughput(steps, given.rounds, given.steps, given.device)
            row = {"network": name, "type": mode, "how": how, "parity": apart, "steps_per_second": speed}
            rows.append(row)
            print(
                f"{name:14} {mode:9} {how:9} outputs {apart['outputs']:.1e} gradients {apart['gradients']:.1e} "
                f"{speed['netferry']:8.2f} {speed['native']:8.2f} steps/s {speed['ratio']:6.3f}",
                flush=True,
            )
    return rows


def main() -> None:
    """Print the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="per round")
    parser.add_argument("--only", choices=sorted(NATIVES))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "torch_gpu.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for name in NATIVES if given.only in (None, name) for row in measured(name, given)]
    card = torch.cuda.get_device_name() if given.device.startswith("cuda") else platform.processor() or "cpu"
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items() if k != "out"}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"device": card, "torch": torch.__version__, "settings": settings, "rows": rows}, indent=1)
    given.out.write_text(text + "\n")
    worst = min(row["steps_per_second"]["ratio"] for row in rows)
    apart = [row for row in rows if row["parity"]["outputs"] > BOUNDS[row["type"]]]
    print(
        f"on {card}: least ratio {worst:.3f} (bar 0.97); beyond the bound of parity: {len(apart)} of {len(rows)} rows"
    )


if __name__ == "__main__":
    main()
