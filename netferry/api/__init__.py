"""The verbs, for Python: load, save, convert, verify, inspect, predict … The only package that knows all rooms.

One file per verb or family of verbs; every room is imported inside the functions that need it.
"""

from netferry.api import zoo
from netferry.api.advising import advise
from netferry.api.comparing import compare
from netferry.api.comparing_zoo import compare_zoo
from netferry.api.converting import convert
from netferry.api.datasets import preview
from netferry.api.differing import diff
from netferry.api.evaluating import evaluate
from netferry.api.exporting import export
from netferry.api.features import features, merge_features, open_data
from netferry.api.heads import train_head
from netferry.api.packaging import package
from netferry.api.predicting import predict
from netferry.api.quantizing import quantize
from netferry.api.reading import load
from netferry.api.rebatching import rebatch
from netferry.api.retraining import fit, retrain
from netferry.api.running import run
from netferry.api.saving import save
from netferry.api.scanning import scan
from netferry.api.sessions import session
from netferry.api.showing import doctor, formats, inspect, layers
from netferry.api.training import to_torch, update_from
from netferry.api.verifying import verify
from netferry.api.viewing import view
from netferry.api.visualizing import visualize
from netferry.api.weights import load_weights, save_weights

__all__ = [
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
