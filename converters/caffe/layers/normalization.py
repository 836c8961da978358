"""Normalisation by the data itself: LRN, MVN, and the Normalize of SSD and of face recognition.

Rules: lrn_layer.cpp and mvn_layer.cpp of BVLC Caffe, normalize_layer.cpp of SSD.
"""

from __future__ import annotations

from netferry.converters.caffe.registry import Layer, layer
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("LRN")
def lrn(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Divide by (k + alpha / n * sum of squares)^beta over neighbouring channels, or over a square within each."""
    p = l.param("lrn_param")
    size = p.int("local_size", 5, least=1)
    if size % 2 == 0:
        raise UnsupportedOption(f"local_size {size}: LRN takes odd sizes only", layer=l.name)
    alpha, beta, k = p.float("alpha", 1.0), p.float("beta", 0.75), p.float("k", 1.0)
    within = p.enum("norm_region", ("ACROSS_CHANNELS", "WITHIN_CHANNEL"), "ACROSS_CHANNELS") == "WITHIN_CHANNEL"
    dims = shape_of(x)
    if len(dims) != 4:
        raise MalformedFile(f"LRN needs 4 axes, the bottom has {len(dims)}", layer=l.name)
    if not within and alpha > 0 and beta > 0:  # as the operator's implementations demand
        reach = _reach(size, dims[1])
        return b.op("LRN", x, size=reach, alpha=alpha * (reach / size), beta=beta, bias=k)
    squares = b.op("Mul", x, x)
    if within:  # Caffe builds it from pooling (zeros outside count) and Power with shift 1: k plays no part
        kernel, k = [_reach(size, dims[2]), _reach(size, dims[3])], 1.0
    else:
        kernel = [_reach(size, dims[1]), 1]
        squares = b.reshape(squares, [0, 1, l.fixed(x, 1, "LRN"), -1])
    half = [(n - 1) // 2 for n in kernel]
    means = b.op("AveragePool", squares, kernel_shape=kernel, pads=[*half, *half], count_include_pad=1)
    if not within:
        means = b.op("Reshape", means, b.op("Shape", x), types=[(ir.DataType.FLOAT, dims)])
    share = alpha * (kernel[0] / size) * (kernel[1] / size if within else 1.0)
    base = b.op("Add", b.op("Mul", means, float(share)), float(k))
    return b.op("Div", x, b.op("Pow", base, float(beta)))


def _reach(size: int, axis: object) -> int:
    """A window of ``size``, or a smaller one that reaches everything as well; the divisor is corrected for it."""
    return min(size, 2 * axis - 1) if isinstance(axis, int) else size


@layer("MVN")
def mvn(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Subtract the mean, divide by the standard deviation plus eps, per channel or over all channels."""
    p = l.param("mvn_param")
    eps, across = p.float("eps", 1e-9), p.bool("across_channels", False)
    scaled = p.bool("normalize_variance", True)
    rank = len(shape_of(x))
    if rank == 0:
        raise MalformedFile("cannot normalise a scalar", layer=l.name)
    axes = list(range(1 if across else 2, rank))
    if not axes:  # every value is its own mean
        return b.op("Sub", x, x)
    over = b.const(axes, "axes")
    centred = b.op("Sub", x, b.op("ReduceMean", x, over, keepdims=1))
    if not scaled:
        return centred
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), over, keepdims=1)
    return b.op("Div", centred, b.op("Add", b.op("Sqrt", variance), float(eps)))


@layer("Normalize", "NormalizeL2")
def normalize(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Divide by the Euclidean norm over channels (and space), then scale.

    SSD's has norm_param and a scale blob; the one of face-recognition forks has neither and norms the channels.
    """
    face = l.param("normalize_param")
    kind = face.str("normalize_type", "L2")
    if kind not in ("L1", "L2"):
        raise UnsupportedOption(f"normalize_type {quoted(kind)} is not supported (only L1, L2)", layer=l.name)
    face.ignore("fix_gradient", "bp_norm")
    p = l.param("norm_param")
    rank = len(shape_of(x))
    if rank < 2:
        raise MalformedFile(f"{l.type} needs at least 2 axes, the bottom has {rank}", layer=l.name)
    ssd = bool(l.blobs) or "norm_param" in l.message or not ("normalize_param" in l.message or l.has_weights_file)
    everywhere = p.bool("across_spatial", ssd)
    axes = b.const(list(range(1, rank)) if everywhere else [1], "axes")
    if kind == "L1":
        norm = b.op("ReduceL1", x, axes, keepdims=1)
    else:
        eps = p.float("eps", 1e-10)
        norm = b.op("Sqrt", b.op("Add", b.op("ReduceSumSquare", x, axes, keepdims=1), float(eps)))
    y = b.op("Div", x, norm)
    shared = p.bool("channel_shared", True)
    filler = p.filler("scale_filler")
    if not ssd:
        return y
    channels = 1 if shared else l.fixed(x, 1, "one scale per channel")
    shape = [1] if shared else [channels, *[1] * (rank - 2)]
    return b.op("Mul", y, l.weight(b, "weight", 0, shape, filler=filler, default=1.0))
