"""Data in: one face for folders, globs, lists, indexes, tar shards, arrays and stdin; larger than memory.

Light enough for serving: never imports onnx, onnx_ir nor torch.
"""
