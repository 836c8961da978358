"""A stand-in for torchvision, for onnx2torch and onnx2pytorch: they import it at once and use it for few operators.

Python's own standard library only: the peers' environments import it from this folder.
"""

from __future__ import annotations

import sys
import types
from typing import Any


def _missing(*args: Any, **settings: Any) -> Any:
    raise NotImplementedError("torchvision is not installed")


def install() -> None:
    """Put modules ``torchvision``, ``torchvision.ops`` and ``torchvision.io`` where they are not installed."""
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        return
    names = {
        "torchvision.ops": ("roi_align", "roi_pool", "nms", "batched_nms", "box_convert", "deform_conv2d"),
        "torchvision.io": ("decode_image", "ImageReadMode"),
    }
    whole: Any = types.ModuleType("torchvision")
    whole.__version__ = "0"
    sys.modules["torchvision"] = whole
    for name, functions in names.items():
        part: Any = types.ModuleType(name)
        for function in functions:
            setattr(part, function, _missing)
        sys.modules[name] = part
        setattr(whole, name.rpartition(".")[2], part)
