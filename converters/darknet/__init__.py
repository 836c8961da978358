"""Darknet: ``.cfg`` and ``.weights``, classification, detection and text nets, labels from ``.names`` and ``.data``."""
