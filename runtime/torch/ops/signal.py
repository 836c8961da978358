"""Fourier transforms; complex numbers are pairs on the last axis."""

from __future__ import annotations

import torch
from torch import Tensor

from netferry.runtime.torch.registry import HostInt, op


@op
def DFT(
    input: Tensor, dft_length: HostInt | None = None, axis: HostInt = -2, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Cut or padded with zeros to ``dft_length``. ``onesided`` gives half, and with ``inverse`` takes half."""
    rank = input.dim()
    axis = axis + rank if axis < 0 else axis
    kind = input.dtype
    wide = input if kind is torch.float64 else input.float()
    x = wide.squeeze(-1) if input.shape[-1] == 1 else torch.view_as_complex(wide.contiguous())
    if inverse and onesided:
        y = torch.fft.irfft(x, dft_length, axis).unsqueeze(-1)
    elif inverse:
        y = torch.view_as_real(torch.fft.ifft(x, dft_length, axis))
    elif onesided and not x.is_complex():
        y = torch.view_as_real(torch.fft.rfft(x, dft_length, axis))
    else:
        full = torch.fft.fft(x, dft_length, axis)
        y = torch.view_as_real(full.narrow(axis, 0, full.shape[axis] // 2 + 1) if onesided else full)
    return y.to(kind)


@op
def STFT(
    signal: Tensor,
    frame_step: HostInt,
    window: Tensor | None = None,
    frame_length: HostInt | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    size = frame_length if frame_length is not None else signal.shape[1] if window is None else window.shape[0]
    x = signal.unsqueeze(-1) if signal.dim() == 2 else signal
    frames = x.unfold(1, size, frame_step).movedim(-1, 2)
    if window is not None:
        frames = frames * window.reshape(1, 1, -1, 1)
    return DFT(frames, None, 2, onesided=onesided)
