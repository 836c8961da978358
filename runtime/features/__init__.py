"""Activations of layers as features: computed, pooled, written so that a killed run goes on, read back, merged.

Light enough for serving: never imports onnx, onnx_ir nor torch.
"""
