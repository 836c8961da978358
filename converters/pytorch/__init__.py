"""Files of PyTorch: programs of torch.export, through torch's own exporter; pickles are refused."""

from __future__ import annotations
