"""Old nets to today's: V0 to V1 to V2, data transformations and input fields, by the rules of upgrade_proto.cpp."""

from __future__ import annotations

from netferry.converters.caffe.prototxt import Message, Scalar
from netferry.errors import MalformedFile, quoted
from netferry.schemas.model import Note

V1_TYPES = {
    0: "None", 35: "AbsVal", 1: "Accuracy", 30: "ArgMax", 2: "BNLL", 3: "Concat", 37: "ContrastiveLoss",
    4: "Convolution", 39: "Deconvolution", 5: "Data", 6: "Dropout", 32: "DummyData", 7: "EuclideanLoss",
    25: "Eltwise", 38: "Exp", 8: "Flatten", 9: "HDF5Data", 10: "HDF5Output", 28: "HingeLoss", 11: "Im2col",
    12: "ImageData", 13: "InfogainLoss", 14: "InnerProduct", 15: "LRN", 29: "MemoryData",
    16: "MultinomialLogisticLoss", 34: "MVN", 17: "Pooling", 26: "Power", 18: "ReLU", 19: "Sigmoid",
    27: "SigmoidCrossEntropyLoss", 36: "Silence", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 33: "Slice",
    23: "TanH", 24: "WindowData", 31: "Threshold", 40: "PReLU", 41: "ELU",
}  # fmt: skip
"""Number in the V1 enumeration -> type; 40 and 41 are extensions of forks."""

_V1_WORDS = {
    "ABSVAL": 35, "ACCURACY": 1, "ARGMAX": 30, "BNLL": 2, "CONCAT": 3, "CONTRASTIVE_LOSS": 37, "CONVOLUTION": 4,
    "DECONVOLUTION": 39, "DATA": 5, "DROPOUT": 6, "DUMMY_DATA": 32, "EUCLIDEAN_LOSS": 7, "ELTWISE": 25, "EXP": 38,
    "FLATTEN": 8, "HDF5_DATA": 9, "HDF5_OUTPUT": 10, "HINGE_LOSS": 28, "IM2COL": 11, "IMAGE_DATA": 12,
    "INFOGAIN_LOSS": 13, "INNER_PRODUCT": 14, "LRN": 15, "MEMORY_DATA": 29, "MULTINOMIAL_LOGISTIC_LOSS": 16,
    "MVN": 34, "POOLING": 17, "POWER": 26, "RELU": 18, "SIGMOID": 19, "SIGMOID_CROSS_ENTROPY_LOSS": 27,
    "SILENCE": 36, "SOFTMAX": 20, "SOFTMAX_LOSS": 21, "SPLIT": 22, "SLICE": 33, "TANH": 23, "WINDOW_DATA": 24,
    "THRESHOLD": 31, "PRELU": 40, "ELU": 41, "NONE": 0,
}  # fmt: skip

_V0_TYPES = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data",
    "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output", "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss", "split": "Split", "tanh": "TanH", "window_data": "WindowData",
}  # fmt: skip

# V0 field -> (message, field) by layer type; "*" applies to every type that has the message
_V0_FIELDS: dict[str, dict[str, tuple[str, str]]] = {
    "Convolution": {
        "num_output": ("convolution_param", "num_output"), "biasterm": ("convolution_param", "bias_term"),
        "weight_filler": ("convolution_param", "weight_filler"), "bias_filler": ("convolution_param", "bias_filler"),
        "pad": ("convolution_param", "pad"), "kernelsize": ("convolution_param", "kernel_size"),
        "group": ("convolution_param", "group"), "stride": ("convolution_param", "stride"),
    },
    "InnerProduct": {
        "num_output": ("inner_product_param", "num_output"), "biasterm": ("inner_product_param", "bias_term"),
        "weight_filler": ("inner_product_param", "weight_filler"),
        "bias_filler": ("inner_product_param", "bias_filler"),
    },
    "Pooling": {
        "pool": ("pooling_param", "pool"), "kernelsize": ("pooling_param", "kernel_size"),
        "stride": ("pooling_param", "stride"), "pad": ("pooling_param", "pad"),
    },
    "Im2col": {
        "kernelsize": ("convolution_param", "kernel_size"), "stride": ("convolution_param", "stride"),
        "pad": ("convolution_param", "pad"),
    },
    "LRN": {
        "local_size": ("lrn_param", "local_size"), "alpha": ("lrn_param", "alpha"), "beta": ("lrn_param", "beta"),
        "k": ("lrn_param", "k"),
    },
    "Dropout": {"dropout_ratio": ("dropout_param", "dropout_ratio")},
    "Concat": {"concat_dim": ("concat_param", "concat_dim")},
    "Data": {
        "source": ("data_param", "source"), "batchsize": ("data_param", "batch_size"),
        "rand_skip": ("data_param", "rand_skip"),
    },
    "HDF5Data": {"source": ("hdf5_data_param", "source"), "batchsize": ("hdf5_data_param", "batch_size")},
    "ImageData": {
        "source": ("image_data_param", "source"), "batchsize": ("image_data_param", "batch_size"),
        "rand_skip": ("image_data_param", "rand_skip"), "new_height": ("image_data_param", "new_height"),
        "new_width": ("image_data_param", "new_width"), "shuffle_images": ("image_data_param", "shuffle"),
    },
    "WindowData": {"source": ("window_data_param", "source"), "batchsize": ("window_data_param", "batch_size")},
    "InfogainLoss": {"source": ("infogain_loss_param", "source")},
}  # fmt: skip
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_V0_KEPT = {"name", "type", "blobs", "blobs_lr", "weight_decay"}
_DATA_MESSAGES = ("data_param", "image_data_param", "window_data_param")


def upgrade(net: Message, notes: list[Note]) -> list[Message]:
    """Return the net's layers in today's form, in file order, inputs first.

    ``notes`` gets one entry per kind of upgrade. ``input`` fields become Input layers wherever they stand.
    """
    layers: list[Message] = []
    versions: set[str] = set()
    for name, value in net.order:
        if name not in ("layer", "layers"):
            continue
        if not isinstance(value, Message):
            raise MalformedFile(f"{name} is not a message", line=value.line or None, column=value.column)
        if value.messages("layer"):
            versions.add("V0")
            layers.append(_from_v0(value))
        elif name == "layers" or _is_v1(value):
            versions.add("V1")
            layers.append(_from_v1(value))
        else:
            layers.append(value)
    if versions:
        notes.append(Note("assumed", f"layers of {' and '.join(sorted(versions))} upgraded as Caffe does"))
    if "V0" in versions:
        layers = _fold_padding(layers)
    for layer in layers:
        _join_settings(layer)
        _lift_transformation(layer)
    return _input_layers(net) + layers


def _is_v1(layer: Message) -> bool:
    types = layer.get("type")
    return bool(types) and isinstance(types[-1], Scalar) and not types[-1].quoted


def _copy(layer: Message, names: set[str]) -> Message:
    out = Message(line=layer.line, column=layer.column)
    for name, value in layer.order:
        if name in names:
            out.add(name, value)
    return out


def _from_v1(layer: Message) -> Message:
    drop = {"type", "blobs_lr", "weight_decay", "param", "blob_share_mode"}
    out = _copy(layer, set(layer) - drop)
    kind = layer.get("type")
    word = kind[-1] if kind else Scalar("NONE")
    if not isinstance(word, Scalar):
        raise MalformedFile("type is not a word", layer=layer.text("name"))
    number = word.as_int()
    if number is None:
        number = _V1_WORDS.get(word.text)
    # an unknown word stays as it is: a fork's layer, or one whose type was written as in V2
    out.add("type", Scalar(word.text if number is None else V1_TYPES.get(number, word.text), quoted=True))
    params = layer.get("param")  # V1 has names of shared parameters here, V2 messages
    names, modes = [v.text for v in params if isinstance(v, Scalar)], layer.texts("blob_share_mode")
    rates, decays = layer.texts("blobs_lr"), layer.texts("weight_decay")
    for i in range(max(len(names), len(modes), len(rates), len(decays))):
        spec = Message()
        for key, values in (("name", names), ("share_mode", modes), ("lr_mult", rates), ("decay_mult", decays)):
            if i < len(values) and values[i] != "":
                spec.add(key, Scalar(values[i], quoted=key == "name"))
        out.add("param", spec)
    for value in params:
        if isinstance(value, Message):
            out.add("param", value)
    return out


def _from_v0(outer: Message) -> Message:
    inner = outer.messages("layer")[-1]
    name, kind = inner.text("name"), inner.text("type")
    if kind == "padding":
        out = _copy(inner, {"name", "pad"})
        out.add("type", Scalar("padding", quoted=True))
    else:
        out = Message(line=outer.line, column=outer.column)
        out.add("name", Scalar(name, quoted=True))
        typed = _V0_TYPES.get(kind, kind)
        out.add("type", Scalar(typed, quoted=True))
        messages: dict[str, Message] = {}
        for field, value in inner.order:
            place = _V0_FIELDS.get(typed, {}).get(field)
            if place is None and field in _V0_TRANSFORM and typed in ("Data", "ImageData", "WindowData", "HDF5Data"):
                place = ("transform_param", _V0_TRANSFORM[field])
            if place is not None:
                messages.setdefault(place[0], Message()).add(place[1], value)
            elif field not in _V0_KEPT:
                raise MalformedFile(f"V0 layers of type {quoted(kind)} have no field {quoted(field)}", layer=name)
        for message_name, message in messages.items():
            out.add(message_name, message)
    for key in ("bottom", "top"):
        for value in outer.get(key):
            out.add(key, value)
    return out


def _fold_padding(layers: list[Message]) -> list[Message]:
    """Let the layer after a V0 padding layer do the padding itself."""
    pads: dict[str, tuple[str, Scalar | Message]] = {}
    out: list[Message] = []
    for layer in layers:
        bottoms = layer.texts("bottom")
        if layer.text("type") == "padding":
            amount = layer.get("pad")
            if len(bottoms) != 1 or not layer.texts("top"):
                raise MalformedFile("a padding layer has one bottom and one top", layer=layer.text("name"))
            pads[layer.texts("top")[0]] = (bottoms[0], amount[-1] if amount else Scalar("0"))
            continue
        if any(b in pads for b in bottoms):
            if layer.text("type") not in ("Convolution", "Pooling", "Im2col"):
                raise MalformedFile(
                    "only a convolution or pooling may follow a padding layer", layer=layer.text("name")
                )
            out.append(_with_padding(layer, pads))
        else:
            out.append(layer)
    return out


def _with_padding(layer: Message, pads: dict[str, tuple[str, Scalar | Message]]) -> Message:
    out = _copy(layer, set(layer) - {"bottom"})
    settings = "pooling_param" if layer.text("type") == "Pooling" else "convolution_param"
    for bottom in layer.texts("bottom"):
        source, amount = pads.get(bottom, (bottom, None))
        out.add("bottom", Scalar(source, quoted=True))
        if amount is not None:
            messages = out.messages(settings)
            if not messages:
                messages = [Message()]
                out.add(settings, messages[0])
            messages[-1].remove("pad")
            messages[-1].add("pad", amount)
    return out


def _join_settings(layer: Message) -> None:
    """Make settings that are given in two messages one: later values win, as protobuf has it."""
    for name in [n for n, values in layer.fields.items() if len(values) > 1 and n.endswith("_param")]:
        joined = Message(line=layer.line, column=layer.column)
        for message in layer.messages(name):
            for key, value in message.order:
                joined.add(key, value)
        layer.remove(name)
        layer.add(name, joined)


def _lift_transformation(layer: Message) -> None:
    """Move scale, mean_file, crop_size and mirror from the old places to transform_param."""
    for name in _DATA_MESSAGES:
        for message in layer.messages(name):
            moved = [(k, v) for k, v in message.order if k in ("scale", "mean_file", "crop_size", "mirror")]
            if not moved:
                continue
            target = layer.messages("transform_param")
            if not target:
                target = [Message()]
                layer.add("transform_param", target[0])
            for key, value in moved:
                target[-1].add(key, value)
                message.remove(key)


def _input_layers(net: Message) -> list[Message]:
    """``input`` with ``input_shape`` or four ``input_dim`` each -> Input layers."""
    names = net.texts("input")
    shapes = net.messages("input_shape")
    dims = [v for v in net.get("input_dim") if isinstance(v, Scalar)]
    if not names:
        return []
    if shapes and dims:
        raise MalformedFile("input_shape and input_dim are both given")
    if shapes and len(shapes) not in (1, len(names)):
        raise MalformedFile(f"{len(names)} inputs, but {len(shapes)} input_shape")
    if dims and len(dims) != 4 * len(names):
        raise MalformedFile(f"{len(names)} inputs need {4 * len(names)} input_dim, {len(dims)} are given")
    out: list[Message] = []
    for i, name in enumerate(names):
        layer, param = Message(), Message()
        layer.add("name", Scalar(name, quoted=True))
        layer.add("type", Scalar("Input", quoted=True))
        layer.add("top", Scalar(name, quoted=True))
        if shapes:
            param.add("shape", shapes[i if len(shapes) > 1 else 0])
        elif dims:
            shape = Message()
            for dim in dims[4 * i : 4 * i + 4]:
                shape.add("dim", dim)
            param.add("shape", shape)
        layer.add("input_param", param)
        out.append(layer)
    return out
