"""Data in: one face for folders, globs, lists, indexes, tar shards, arrays and stdin; larger than memory.

Light enough for serving: never imports onnx, onnx_ir nor torch.
"""

from netferry.runtime.data.ahead import Loaded, load_ahead
from netferry.runtime.data.item import Item, Shard
from netferry.runtime.data.sources import Data, open_data

__all__ = ["Data", "Item", "Loaded", "Shard", "load_ahead", "open_data"]
