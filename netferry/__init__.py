"""netferry carries trained networks between formats.

    >>> import netferry
    >>> model = netferry.load("net.prototxt", "net.caffemodel")
    >>> netferry.save(model, "net.onnx")

Nothing heavy is imported until it is used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
# onnxruntime 1.31 tells its maker of every session, keeps a database in ~/.cache and a file in the temporary folder;
# it asks for this variable when it is imported, and so do children
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from netferry import zoo
    from netferry.api import (
        advise,
        compare,
        compare_zoo,
        convert,
        diff,
        doctor,
        evaluate,
        export,
        features,
        fit,
        formats,
        inspect,
        layers,
        load,
        load_weights,
        merge_features,
        open_data,
        package,
        predict,
        preview,
        quantize,
        rebatch,
        retrain,
        run,
        save,
        save_weights,
        scan,
        session,
        to_torch,
        train_head,
        update_from,
        verify,
        view,
        visualize,
    )
    from netferry.errors import NetferryError
    from netferry.runtime.data.folder import ImageFolder
    from netferry.runtime.training.augment import Augment
    from netferry.runtime.training.options import TrainOptions
    from netferry.runtime.training.sounds import SoundAugment
    from netferry.schemas.model import Model
    from netferry.schemas.preprocessing import Preprocessing

_HOMES = {
    "Augment": "netferry.runtime.training.augment",
    "ImageFolder": "netferry.runtime.data.folder",
    "Model": "netferry.schemas.model",
    "NetferryError": "netferry.errors",
    "Preprocessing": "netferry.schemas.preprocessing",
    "SoundAugment": "netferry.runtime.training.sounds",
    "TrainOptions": "netferry.runtime.training.options",
}

__all__ = [
    "Augment",
    "ImageFolder",
    "Model",
    "NetferryError",
    "Preprocessing",
    "SoundAugment",
    "TrainOptions",
    "advise",
    "compare",
    "compare_zoo",
    "convert",
    "diff",
    "doctor",
    "evaluate",
    "export",
    "features",
    "fit",
    "formats",
    "inspect",
    "layers",
    "load",
    "load_weights",
    "merge_features",
    "open_data",
    "package",
    "predict",
    "preview",
    "quantize",
    "rebatch",
    "retrain",
    "run",
    "save",
    "save_weights",
    "scan",
    "session",
    "to_torch",
    "train_head",
    "update_from",
    "verify",
    "view",
    "visualize",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'netferry' has no attribute {name!r}")
    if name == "zoo":
        return import_module("netferry.zoo")
    return getattr(import_module(_HOMES.get(name, "netferry.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
