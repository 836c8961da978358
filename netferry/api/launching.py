"""Several processes for one training: torchrun starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def under_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ or ("RANK" in os.environ and "WORLD_SIZE" in os.environ)


def first_process() -> bool:
    """Whether this process is the one that writes and tells: the only one, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


def launch(devices: int, nodes: int, arguments: Sequence[str] | None = None) -> int:
    """Run this very command in ``devices`` processes of this machine; returns the exit code.

    For several machines (``nodes``) torchrun's own variables say where they meet: PET_NODE_RANK, PET_RDZV_ENDPOINT;
    or start ``torchrun --nnodes N … -m netferry retrain …`` on each.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    meeting = ["--standalone"] if nodes == 1 else ["--nnodes", str(nodes)]
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(devices)]
    return subprocess.run([*command, "-m", "netferry", *words], check=False).returncode
