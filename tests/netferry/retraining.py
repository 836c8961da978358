"""The digits' network, retrained on drawn shapes with few settings: for the tests of ``retrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netferry

ROOT = Path(__file__).resolve().parents[2]
NET = (str(ROOT / "fixtures/digits.prototxt"), str(ROOT / "fixtures/digits.caffemodel"))
READING: dict[str, Any] = {"mean_file": str(ROOT / "fixtures/digits_mean.binaryproto"), "recipe": {"scale": (1 / 256,)}}


def retrain(data: Any, target: Path, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"augment": None, "epochs": 3, "learning_rate": 3e-3, **READING, **options}
    return netferry.retrain(NET[0], data, target, weights=NET[1], **settings)
