"""Families of layers: what gives a box its colour, and which layers are drawn onto the box of the one they follow."""

from __future__ import annotations

from netferry.schemas.layers import LayerRow, graphs_of

_OPERATORS = {
    "convolution": (
        "Conv", "ConvTranspose", "ConvInteger", "DeformConv", "QLinearConv", "FusedConv", "DepthwiseConv", "Conv2D",
    ),
    "product": ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum", "FusedMatMul", "FusedGemm", "Gather"),
    "recurrent": ("LSTM", "GRU", "RNN"),
    "attention": ("Attention", "MultiHeadAttention", "RotaryEmbedding", "GroupQueryAttention"),
    "normalization": (
        "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN",
        "RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "SkipLayerNormalization",
    ),
    "activation": (
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softmax",
        "LogSoftmax", "Hardmax", "Gelu", "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Clip", "Erf", "Swish",
        "Dropout", "QuickGelu",
    ),
    "pool": (
        "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "MaxUnpool",
        "MaxRoiPool", "RoiAlign", "ReduceMean", "ReduceMax", "ReduceSum",
    ),
    "merge": ("Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Concat", "And", "Or", "Where", "Pow"),
    "control": ("If", "Loop", "Scan", "SequenceMap"),
    "shape": (
        "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Pad", "Shape", "Expand", "Tile",
        "Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "Cast", "Identity", "Constant", "ConstantOfShape",
        "Range", "Size", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    ),
}  # fmt: skip
_FAMILY = {operator: family for family, operators in _OPERATORS.items() for operator in operators}
_WEIGHT = {name: i for i, name in enumerate(
    ("shape", "merge", "activation", "pool", "normalization", "product", "convolution", "attention", "recurrent",
     "control")
)}  # fmt: skip
_FOLLOWS = ("activation", "normalization", "shape")


def family_of(row: LayerRow) -> str:
    """The family of a layer: that of its weightiest operator; ``input``, or ``other`` for what is unknown."""
    if row.type == "Input" and not row.nodes:
        return "input"
    if any(graphs_of(a) for node in row.nodes for a in node.attributes.values()):
        return "control"
    found = [
        _FAMILY[n.op_type] for n in row.nodes if n.op_type in _FAMILY and n.domain in ("", "ai.onnx", "com.microsoft")
    ]
    return max(found, key=_WEIGHT.__getitem__) if found else "other"


def follows(family: str) -> bool:
    """Whether a layer of this family is drawn onto the box of the only one that it reads."""
    return family in _FOLLOWS
