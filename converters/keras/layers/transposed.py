"""Transposed convolutions: Keras's own rules for the length of the output."""

from __future__ import annotations

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.convolution import spatial_rank, turned
from netferry.converters.keras.layout import KT, channels_first, transposed_to_first
from netferry.converters.keras.registry import kernel_and_bias, layer
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder


@layer(
    "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
    "Convolution1DTranspose", "Convolution2DTranspose", "Convolution3DTranspose",
    weights=kernel_and_bias,
)  # fmt: skip
def conv_transpose(b: Builder, l: Layer, x: KT) -> KT:
    """Gradient of a convolution as a layer.

    The full result has (in - 1) * stride + reach elements. ``valid`` keeps it (or more, where the stride is larger
    than the kernel); ``same`` keeps in * stride of it, cropping less at the beginning; ``output_padding`` replaces
    both rules by (in - 1) * stride + reach - 2 * pad + output_padding.
    """
    rank = spatial_rank(l)
    filters = l.config.integer("filters", least=1)
    kernel = l.config.integers("kernel_size", rank, least=1)
    strides = l.config.integers("strides", rank, 1, least=1)
    dilation = l.config.integers("dilation_rate", rank, 1, least=1)
    kind = l.config.choice("padding", "valid", "valid", "same")
    extra = None if l.config.take("output_padding", None) is None else l.config.integers("output_padding", rank)
    l.config.ignore("groups")
    l.rank(x, rank + 2)
    order = channels_first(rank + 2, l.data_format())
    channels = l.dim(x, order[1])
    weight = l.weight(
        b, "kernel", "weight", (*kernel, filters, channels), transform=turned(l, transposed_to_first, rank)
    )
    bias = l.weight(b, "bias", "bias", (filters,)) if l.config.flag("use_bias", True) else None
    begins: list[int] = []
    ends: list[int] = []
    more: list[int] = []
    for i in range(rank):
        begin, end, add = crops(kind, kernel[i], strides[i], dilation[i], None if extra is None else extra[i])
        if add >= max(strides[i], dilation[i]) and add > 0:
            raise MalformedFile("output_padding must be below the stride", layer=l.path)
        begins.append(begin)
        ends.append(end)
        more.append(add)
    pads = begins + ends
    made = b.op(
        "ConvTranspose",
        x.to(b, order),
        weight,
        bias,
        kernel_shape=list(kernel),
        strides=list(strides) if any(s != 1 for s in strides) else None,
        dilations=list(dilation) if any(d != 1 for d in dilation) else None,
        pads=pads if any(pads) else None,
        output_padding=more if any(more) else None,
    )
    return activate(b, l, KT(made, order), l.config.take("activation", None))


def crops(kind: str, kernel: int, stride: int, dilation: int, extra: int | None) -> tuple[int, int, int]:
    """Return what is cut off the full result at its beginning and end, and what is added at the end.

    The wanted length is that of Keras's ``deconv_output_length``; TensorFlow then cuts as the padding of the
    convolution whose gradient this is: half of the difference, rounded down, in front.
    """
    reach = (kernel - 1) * dilation + 1
    if kind == "valid":
        return 0, 0, max(stride - reach, 0) if extra is None else extra
    cut = reach - stride if extra is None else 2 * (reach // 2) - extra
    return (cut // 2, cut - cut // 2, 0) if cut >= 0 else (0, 0, -cut)
