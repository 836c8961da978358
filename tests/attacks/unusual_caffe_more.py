"""More unusual but valid Caffe files: messages in pieces, versions mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attacks import unusual_caffe, unusual_onnx
from tests.attacks.unusual_made import CASES, Made
from tests.converters.caffe.caffemodel_writer import blob, message, text, varint

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


def caffe_case(make: Callable[[], unusual_caffe.Files]) -> Callable[..., Any]:
    def written(folder: Path) -> Made:
        files = make()
        (folder / "net.prototxt").write_bytes(files.net or b"")
        (folder / "net.caffemodel").write_bytes(files.weights or b"")
        return Made([folder / "net.prototxt", folder / "net.caffemodel"], files.wanted, unusual_caffe.X)

    CASES[f"caffe-{make.__name__.replace('_', '-')}"] = written
    return make


_NET, CW, CB = unusual_caffe.NET, unusual_caffe.W, unusual_caffe.B


@caffe_case
def v1_and_v2_layers_in_one_net() -> unusual_caffe.Files:
    """Hand-merged nets; all their layers count, in the order of the two lists."""
    more = 'layers { name: "p" type: POWER bottom: "y" top: "z" power_param { scale: 2 } }'
    return unusual_caffe.Files(net=(_NET + more).encode(), wanted=2 * unusual_caffe.WANTED)


@caffe_case
def v1_and_v2_layers_in_one_weights_file() -> unusual_caffe.Files:
    v1 = text(4, "old") + varint(5 << 3) + varint(14) + message(6, unusual_caffe.legacy(CW))
    return unusual_caffe.Files(weights=message(2, v1) + unusual_caffe.stored())


@caffe_case
def shape_in_pieces() -> unusual_caffe.Files:
    """A packed field may come in several pieces, and one by one; so may the numbers."""
    dims = message(7, message(1, varint(4)) + varint(1 << 3) + varint(3))
    data = CW.tobytes()
    pieces = message(5, data[:20]) + message(5, data[20:44]) + b"\x2d" + data[44:]
    return unusual_caffe.Files(
        weights=message(100, text(1, "ip") + text(2, "InnerProduct") + message(7, dims + pieces) + message(7, blob(CB)))
    )


@caffe_case
def dims_longer_than_needed() -> unusual_caffe.Files:
    dims = message(7, message(1, b"\x84\x80\x00" + b"\x83\x80\x80\x00"))
    return unusual_caffe.Files(
        weights=message(
            100,
            text(1, "ip")
            + text(2, "InnerProduct")
            + message(7, dims + message(5, CW.tobytes()))
            + message(7, blob(CB)),
        )
    )


@caffe_case
def vertical_tabs_and_no_line_end() -> unusual_caffe.Files:
    return unusual_caffe.Files(net=_NET.rstrip().replace(" {", "\v{").replace(": ", ":\t").encode())


@caffe_case
def blobs_one_by_one_after_everything() -> unusual_caffe.Files:
    """The weights' fields in another order than Caffe's own writer has."""
    return unusual_caffe.Files(
        weights=message(100, message(7, blob(CW)) + message(7, blob(CB)) + text(2, "InnerProduct") + text(1, "ip"))
        + text(1, "net")
    )


@caffe_case
def inputs_of_mixed_kinds() -> unusual_caffe.Files:
    """An Input layer, and its shape in a nested message with comments between."""
    text_ = _NET.replace(
        'input: "x"\ninput_shape { dim: 1 dim: 3 }',
        'layer { name: "x" type: "Input" top: "x" input_param { # shape\n shape: { dim: 1 # batch\n dim: 3 } } }',
    )
    return unusual_caffe.Files(net=text_.encode())


@caffe_case
def include_and_exclude_rules() -> unusual_caffe.Files:
    more = (
        'layer { name: "a" type: "Power" bottom: "y" top: "y" power_param { scale: 3 } include { phase: TEST } }'
        'layer { name: "b" type: "Power" bottom: "y" top: "y" power_param { scale: 5 } exclude { phase: TEST } }'
        'layer { name: "c" type: "Power" bottom: "y" top: "y" power_param { scale: 7 } include { min_level: 1 } }'
        'layer { name: "d" type: "Power" bottom: "y" top: "y" power_param { scale: 11 } include { not_stage: "deploy" } }'
    )
    return unusual_caffe.Files(net=(_NET + more).encode(), wanted=33 * unusual_caffe.WANTED)


@caffe_case
def blobs_without_a_name() -> unusual_caffe.Files:
    """Caffe's parser asks for no letters; in ONNX a value without a name is one that is not there."""
    return unusual_caffe.Files(
        net=_NET.replace('"ip" inner', '"" inner').replace('bottom: "ip"', 'bottom: ""').encode()
    )


@caffe_case
def truth_as_numbers_of_any_base() -> unusual_caffe.Files:
    """protobuf's ConsumeBoolean takes 0 and 1 as it takes all whole numbers."""
    return unusual_caffe.Files(net=_NET.replace("num_output: 4", "num_output: 4 bias_term: 0x1 transpose: 00").encode())


@caffe_case
def settings_in_two_messages() -> unusual_caffe.Files:
    """Fields of a message that is given twice are those of one message."""
    parts = "inner_product_param { num_output: 3 bias_term: true } inner_product_param { num_output: 4 }"
    return unusual_caffe.Files(net=_NET.replace("inner_product_param { num_output: 4 }", parts).encode())


@caffe_case
def a_shared_parameter_stored_twice() -> unusual_caffe.Files:
    """All layers that share a parameter have one memory: what the file's last layer copies there is everybody's."""
    layer_ = (
        'layer { name: "NAME" type: "InnerProduct" bottom: "x" top: "NAME" param { name: "w" } param { name: "b" } '
        "inner_product_param { num_output: 4 } }"
    )
    head = 'input: "x" input_shape { dim: 1 dim: 3 } '
    both = 'layer { name: "s" type: "Eltwise" bottom: "p" bottom: "q" top: "y" eltwise_param { operation: SUM } }'
    stored = [
        message(100, text(1, name) + text(2, "InnerProduct") + message(7, blob(array)) + message(7, blob(CB)))
        for name, array in (("p", CW + 1), ("q", CW))
    ]
    x = unusual_caffe.X
    return unusual_caffe.Files(
        net=(head + layer_.replace("NAME", "p") + layer_.replace("NAME", "q") + both).encode(),
        weights=b"".join(stored),
        wanted=2 * (x @ CW.T + CB),
    )


def _in_text(array: Any, legacy: bool = False) -> str:
    """A blob as protobuf's text format prints it."""
    dims = (1, 1, *array.shape) if array.ndim == 2 else (1, 1, 1, *array.shape)
    names = ("num", "channels", "height", "width")
    shape = " ".join(f"{n}: {d}" for n, d in zip(names, dims, strict=True)) if legacy else (
        f"shape {{ {' '.join(f'dim: {d}' for d in array.shape)} }}"
    )  # fmt: skip
    return f"blobs {{ {' '.join(f'data: {v!r}' for v in array.ravel().tolist())} {shape} }}"


def _text_alone(kind: str, text_: str) -> Callable[..., Any]:
    def written(folder: Path) -> Made:
        (folder / "net.prototxt").write_text(text_)
        return Made([folder / "net.prototxt"], unusual_caffe.WANTED, unusual_caffe.X)

    CASES[f"caffe-{kind}"] = written
    return written


_BLOBS = f'{_in_text(CW)} {_in_text(CB)} top: "ip"'
_text_alone("weights-in-the-prototxt", _NET.replace('top: "ip"', _BLOBS))
_text_alone(
    "weights-in-a-prototxt-of-version-1",
    _NET.replace('top: "ip"', f'{_in_text(CW, True)} {_in_text(CB, True)} top: "ip"').replace("layer {", "layers {")
    .replace('type: "InnerProduct"', "type: INNER_PRODUCT").replace('type: "ReLU"', "type: RELU"),
)  # fmt: skip


@caffe_case
def weights_in_the_prototxt_and_in_a_file() -> unusual_caffe.Files:
    """The weights file is copied over what the prototxt gave."""
    return unusual_caffe.Files(net=_NET.replace('top: "ip"', f'{_in_text(CW + 1)} {_in_text(CB)} top: "ip"').encode())
