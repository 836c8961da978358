"""Layers that act while a network trains and pass values on otherwise: noise, and random changes to pictures.

They do what Keras's layers of the same names do, with torch's random numbers: ``torch.manual_seed`` repeats a run.
Pictures of a batch are changed apart from each other. Nothing here waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TrainingOnly(nn.Module):
    """Passes values on in eval mode; changes floating-point ones in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x) if self.training and x.is_floating_point() else x

    def act(self, x: Tensor) -> Tensor:
        """What happens in training."""
        raise NotImplementedError


class GaussianNoise(TrainingOnly):
    """Adds normal noise."""

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def act(self, x: Tensor) -> Tensor:
        return x + self.stddev * torch.randn_like(x)


class GaussianDropout(TrainingOnly):
    """Multiplies by normal noise around 1, whose variance is that of a Dropout with the same rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def act(self, x: Tensor) -> Tensor:
        return x * (1 + (self.rate / (1 - self.rate)) ** 0.5 * torch.randn_like(x))


class SharedDropout(TrainingOnly):
    """Drops, with one draw for all elements along the ``shared`` axes."""

    def __init__(self, rate: float, shared: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.rate, self.shared = rate, tuple(shared)

    def kept(self, x: Tensor) -> Tensor:
        """1 where an element stays, else 0."""
        shape = [1 if i in self.shared else size for i, size in enumerate(x.shape)]
        return (torch.rand(shape, device=x.device) >= self.rate).to(x.dtype)

    def act(self, x: Tensor) -> Tensor:
        return x * self.kept(x) / (1 - self.rate)


class SharedAlphaDropout(SharedDropout):
    """Drops to the negative saturation of SELU and keeps mean and variance (Klambauer et al. 2017)."""

    def act(self, x: Tensor) -> Tensor:
        low = -1.7580993408473766
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        kept = self.kept(x)
        return scale * (x * kept + low * (1 - kept)) - scale * low * self.rate


class Pictures(TrainingOnly):
    """Changes pictures; ``axes`` are the places of batch, height, width and channels."""

    def __init__(self, axes: tuple[int, ...] = (0, 2, 3, 1)) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def act(self, x: Tensor) -> Tensor:
        batch, height, width, channels = self.axes
        forth = (batch, channels, height, width)
        back = [forth.index(i) for i in range(4)]
        return self.change(x.permute(forth)).permute(back)

    def change(self, x: Tensor) -> Tensor:
        """Change pictures of N x C x H x W."""
        raise NotImplementedError

    def drawn(self, x: Tensor, bounds: tuple[float, float]) -> Tensor:
        """A number per picture, evenly from a range: N."""
        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(x.shape[0], device=x.device)


class RandomFlip(Pictures):
    """Reflects half of the pictures; both ways by one draw (Keras 3) or each by its own (``apart``, Keras 2)."""

    def __init__(
        self, horizontal: bool = True, vertical: bool = False, apart: bool = False, axes: tuple[int, ...] = (0, 2, 3, 1)
    ) -> None:
        super().__init__(axes)
        self.horizontal, self.vertical, self.apart = horizontal, vertical, apart

    def change(self, x: Tensor) -> Tensor:
        flips = torch.rand(2, x.shape[0], 1, 1, 1, device=x.device) <= 0.5
        if self.horizontal:
            x = torch.where(flips[0], x.flip(3), x)
        if self.vertical:
            x = torch.where(flips[1 if self.apart else 0], x.flip(2), x)
        return x


class Mapped(Pictures):
    """Resamples each picture by an affine map of its own."""

    def __init__(
        self,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        axes: tuple[int, ...] = (0, 2, 3, 1),
    ) -> None:
        super().__init__(axes)
        self.interpolation, self.fill_mode, self.fill_value = interpolation, fill_mode, fill_value

    def change(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        (a0, a1, a2), (b0, b1, b2) = self.map(x)
        row = torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
        column = torch.arange(width, device=x.device, dtype=torch.float32)
        across = (v[:, None, None] for v in (a0, a1, a2))
        down = (v[:, None, None] for v in (b0, b1, b2))
        px, py = (next(t) * column + next(t) * row + next(t) for t in (across, down))
        padding = {"reflect": "reflection", "nearest": "border", "wrap": "border", "constant": "zeros"}[self.fill_mode]
        if self.fill_mode == "wrap":
            px, py = _wrapped(px, width), _wrapped(py, height)
        grid = torch.stack([(2 * px + 1) / width - 1, (2 * py + 1) / height - 1], -1)
        filled = self.fill_value if self.fill_mode == "constant" else 0.0
        made = F.grid_sample(x.float() - filled, grid, self.interpolation, padding, False)
        return (made + filled).to(x.dtype)

    def map(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Where the pixel at column X and row Y comes from: column a0 X + a1 Y + a2, row b0 X + b1 Y + b2."""
        raise NotImplementedError


def _wrapped(at: Tensor, size: int) -> Tensor:
    """TensorFlow's wrapping: a period is the size, but the place decides how many of them by the size less one."""
    below = at + size * (torch.trunc(-at / max(size - 1, 1)) + 1)
    above = at - size * torch.trunc(at / max(size - 1, 1))
    return torch.where(at < 0, below, torch.where(at > size - 1, above, at))


class RandomRotation(Mapped):
    """Rotates about the centre; ``factor`` is a range of whole turns."""

    def __init__(
        self,
        factor: tuple[float, float],
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        axes: tuple[int, ...] = (0, 2, 3, 1),
    ) -> None:
        super().__init__(interpolation, fill_mode, fill_value, axes)
        self.factor = factor

    def map(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        angle = 2 * torch.pi * self.drawn(x, self.factor)
        cos, sin = angle.cos(), angle.sin()
        cx, cy = (x.shape[3] - 1) / 2, (x.shape[2] - 1) / 2
        return (cos, -sin, cx - cx * cos + cy * sin), (sin, cos, cy - cx * sin - cy * cos)


class RandomZoom(Mapped):
    """Zooms about the centre; positive factors make pictures smaller. Without ``width`` both ways alike."""

    def __init__(
        self,
        height: tuple[float, float],
        width: tuple[float, float] | None = None,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        axes: tuple[int, ...] = (0, 2, 3, 1),
    ) -> None:
        super().__init__(interpolation, fill_mode, fill_value, axes)
        self.height, self.width = height, width

    def map(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        down = 1 + self.drawn(x, self.height)
        across = down if self.width is None else 1 + self.drawn(x, self.width)
        none = torch.zeros_like(down)
        cx, cy = (x.shape[3] - 1) / 2, (x.shape[2] - 1) / 2
        return (across, none, cx * (1 - across)), (none, down, cy * (1 - down))


class RandomTranslation(Mapped):
    """Moves pictures by a share of their size; positive ones down and to the right."""

    def __init__(
        self,
        height: tuple[float, float],
        width: tuple[float, float],
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        axes: tuple[int, ...] = (0, 2, 3, 1),
    ) -> None:
        super().__init__(interpolation, fill_mode, fill_value, axes)
        self.height, self.width = height, width

    def map(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        down, across = self.drawn(x, self.height) * x.shape[2], self.drawn(x, self.width) * x.shape[3]
        none, one = torch.zeros_like(down), torch.ones_like(down)
        return (one, none, -across), (none, one, -down)


class Shaded(Pictures):
    """Changes values by a factor of each picture, within their range."""

    def __init__(
        self,
        factor: tuple[float, float],
        value_range: tuple[float, float] = (0.0, 255.0),
        axes: tuple[int, ...] = (0, 2, 3, 1),
    ) -> None:
        super().__init__(axes)
        self.factor, self.value_range = factor, value_range


class RandomContrast(Shaded):
    """Multiplies the distance of each channel's values to their mean."""

    def change(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        times = self.drawn(x, (1 - self.factor[0], 1 + self.factor[1])).to(x.dtype)[:, None, None, None]
        return ((x - mean) * times + mean).clamp(*self.value_range)


class RandomBrightness(Shaded):
    """Adds a share of the range of values to whole pictures."""

    def change(self, x: Tensor) -> Tensor:
        low, high = self.value_range
        more = self.drawn(x, self.factor) * (high - low)
        return (x + more.to(x.dtype)[:, None, None, None]).clamp(low, high)


class RandomCrop(Pictures):
    """Cuts a window out at a random place, one for the batch; pictures that are not larger both ways stay."""

    def __init__(self, height: int, width: int, axes: tuple[int, ...] = (0, 2, 3, 1)) -> None:
        super().__init__(axes)
        self.height, self.width = height, width

    def change(self, x: Tensor) -> Tensor:
        if x.shape[2] <= self.height or x.shape[3] <= self.width:
            return x
        for axis, size in ((2, self.height), (3, self.width)):
            start = torch.randint(x.shape[axis] - size + 1, (1,), device=x.device)
            x = x.index_select(axis, start + torch.arange(size, device=x.device))
        return x
