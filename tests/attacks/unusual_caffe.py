"""Unusual but valid Caffe files; each computes relu(x @ W.T + b) of a batch of three numbers, unless it says otherwise."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.converters.caffe.caffemodel_writer import blob, caffemodel, message, text, varint

RNG = np.random.default_rng(9)
W, B = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
X = RNG.standard_normal((2, 3)).astype(np.float32)
WANTED = np.maximum(X @ W.T + B, 0)
NET = """name: "net"
input: "x"
input_shape { dim: 1 dim: 3 }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "y" }
"""


def stored(**names: object) -> bytes:
    """The plain weights file."""
    return caffemodel({str(names.get("layer", "ip")): ("InnerProduct", [W, B])})


@dataclass
class Files:
    """What a case is made of."""

    net: bytes | None = NET.encode()
    weights: bytes | None = field(default_factory=stored)
    wanted: np.ndarray = field(default_factory=lambda: WANTED)
    swapped: bool = False


CASES: dict[str, Callable[[], Files]] = {}


def case(function: Callable[[], Files]) -> Callable[[], Files]:
    """Register a case under its function's name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def write(name: str, folder: Path) -> tuple[list[Path], np.ndarray]:
    """Make a case's files; returns their paths as ``convert`` takes them, and what the first output should be."""
    files = CASES[name]()
    paths: list[Path] = []
    for suffix, content in (("prototxt", files.net), ("caffemodel", files.weights)):
        if content is not None:
            paths.append(folder / f"net.{suffix}")
            paths[-1].write_bytes(content)
    return paths[::-1] if files.swapped else paths, files.wanted


def net(change: Callable[[str], str]) -> Files:
    return Files(net=change(NET).encode())


# the text ------------------------------------------------------------------------------------------------------------


@case
def byte_order_mark() -> Files:
    return Files(net=b"\xef\xbb\xbf" + NET.encode())


@case
def windows_line_ends() -> Files:
    return net(lambda t: t.replace("\n", "\r\n"))


@case
def old_mac_line_ends() -> Files:
    return net(lambda t: t.replace("\n", "\r"))


@case
def tabs_and_form_feeds() -> Files:
    return net(lambda t: t.replace(" ", "\t\t\f"))


@case
def all_on_one_line() -> Files:
    return net(lambda t: t.replace("\n", " "))


@case
def no_space_at_all() -> Files:
    return Files(
        net=b'name:"net"input:"x"input_shape{dim:1dim:3}layer{name:"ip"type:"InnerProduct"bottom:"x"top:"ip"'
        b'inner_product_param{num_output:4}}layer{name:"relu"type:"ReLU"bottom:"ip"top:"y"}'
    )


@case
def comments_everywhere() -> Files:
    return net(lambda t: '# first { "\n' + t.replace("{", "{ #\n").replace("\n", " # with 'quotes' and { braces\n"))


@case
def comment_at_the_end_without_a_line_end() -> Files:
    return net(lambda t: t + "# the end")


@case
def comments_that_are_no_utf8() -> Files:
    return Files(net="# größe\n".encode("latin-1") + NET.encode())


@case
def single_quotes() -> Files:
    return net(lambda t: t.replace('"', "'"))


@case
def adjacent_strings() -> Files:
    return net(lambda t: t.replace('"InnerProduct"', '"Inner" \'Pro\'\n"duct"'))


@case
def escapes() -> Files:
    return net(lambda t: t.replace('"InnerProduct"', r'"\x49nn\145r\u0050roduct"'))


@case
def commas_and_semicolons() -> Files:
    return net(lambda t: t.replace('top: "ip" ', 'top: "ip"; ').replace('bottom: "x" ', 'bottom: "x", '))


@case
def angle_brackets() -> Files:
    return net(lambda t: t.replace("{", "<").replace("}", ">"))


@case
def colons_before_messages() -> Files:
    return net(lambda t: t.replace(" {", ": {"))


@case
def lists_in_brackets() -> Files:
    return net(lambda t: t.replace("dim: 1 dim: 3", "dim: [1, 3]"))


@case
def hexadecimal_and_octal() -> Files:
    return net(lambda t: t.replace("num_output: 4", "num_output: 0x4").replace("dim: 3", "dim: 03"))


@case
def settings_twice_the_last_counts() -> Files:
    return net(lambda t: t.replace("num_output: 4", "num_output: 9 num_output: 4"))


@case
def settings_of_forks_that_nobody_knows() -> Files:
    return net(lambda t: t.replace('top: "ip"', 'top: "ip" quantize_param { bits: 8 scale: [1.5, 2e-3f] }'))


@case
def extension_names() -> Files:
    return net(lambda t: t.replace('top: "ip"', 'top: "ip" [org.example.more] { a: 1 }'))


@case
def a_solver_s_debug_info_and_state() -> Files:
    return net(lambda t: "force_backward: true debug_info: true state { phase: TEST level: 1 stage: 'deploy' }\n" + t)


@case
def floats_where_integers_stand() -> Files:
    return net(lambda t: t.replace('top: "y"', 'top: "y" relu_param { negative_slope: 0 }'))


# names and structure -------------------------------------------------------------------------------------------------


@case
def names_with_slashes_and_colons() -> Files:
    changed = NET.replace('"ip"', '"block/ip:0"').replace('"relu"', '"block/../relu"')
    return Files(net=changed.encode(), weights=stored(layer="block/ip:0"))


@case
def names_of_unicode() -> Files:
    return Files(net=NET.replace('"ip"', '"全结合 β"').encode(), weights=stored(layer="全结合 β"))


@case
def names_in_latin_1() -> Files:
    net_, weights = NET.replace('"ip"', '"größe"').encode("latin-1"), stored(layer="GROESSE")
    name = "größe".encode("latin-1")
    body = message(1, name) + text(2, "InnerProduct") + message(7, blob(W)) + message(7, blob(B))
    del weights
    return Files(net=net_, weights=message(100, body))


@case
def names_of_60_kilobytes() -> Files:
    long = "n" * 60_000
    return Files(net=NET.replace('"ip"', f'"{long}"').encode(), weights=stored(layer=long))


@case
def a_net_without_a_name() -> Files:
    return net(lambda t: t.replace('name: "net"\n', ""))


@case
def layers_without_names() -> Files:
    return net(lambda t: t.replace('name: "relu" ', ""))


@case
def layers_of_one_name() -> Files:
    return net(lambda t: t.replace('name: "relu"', 'name: "ip"'))


@case
def in_place_on_the_input() -> Files:
    first = 'layer { name: "p" type: "Power" bottom: "x" top: "x" power_param { scale: 2 } }\nlayer { name: "ip"'
    return Files(net=NET.replace('layer { name: "ip"', first).encode(), wanted=np.maximum(2 * X @ W.T + B, 0))


@case
def in_place_on_the_input_alone() -> Files:
    text_ = NET.partition("layer {")[0] + 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
    return Files(net=text_.encode(), weights=None, wanted=np.maximum(X, 0))


@case
def dropout_in_place_on_the_input_alone() -> Files:
    text_ = NET.partition("layer {")[0] + 'layer { name: "r" type: "Dropout" bottom: "x" top: "x" }'
    return Files(net=text_.encode(), weights=None, wanted=X)


@case
def in_place_chain() -> Files:
    return net(
        lambda t: t.replace('top: "y"', 'top: "ip"') + 'layer { name: "d" type: "Dropout" bottom: "ip" top: "ip" }'
    )


@case
def a_thousand_layers() -> Files:
    more = "".join(
        f'layer {{ name: "r{i}" type: "ReLU" bottom: "{"y" if i == 0 else i}" top: "{i + 1}" }}\n' for i in range(1000)
    )
    return net(lambda t: t + more)


@case
def only_a_split() -> Files:
    text_ = NET.partition("layer {")[0] + 'layer { name: "s" type: "Split" bottom: "x" top: "a" top: "b" }'
    return Files(net=text_.encode(), weights=None, wanted=X)


@case
def layers_for_training_only() -> Files:
    more = (
        'layer { name: "d" type: "Data" top: "x" top: "label" include { phase: TRAIN } data_param { source: "db" } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" include { phase: TRAIN } }'
    )
    return net(lambda t: t + more)


@case
def silence() -> Files:
    return net(
        lambda t: t.replace('layer { name: "relu"', 'layer { name: "n" type: "Power" bottom: "ip" top: "n" }\n'
                            'layer { name: "s" type: "Silence" bottom: "n" }\nlayer { name: "relu"')
    )  # fmt: skip


@case
def batch_of_ten_in_the_file() -> Files:
    return net(lambda t: t.replace("dim: 1 dim: 3", "dim: 10 dim: 3"))


@case
def four_input_dims() -> Files:
    return net(
        lambda t: t.replace("input_shape { dim: 1 dim: 3 }", "input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1")
    )


@case
def v1_layers() -> Files:
    text_ = NET.replace("layer {", "layers {").replace('type: "InnerProduct"', "type: INNER_PRODUCT")
    text_ = text_.replace('type: "ReLU"', "type: RELU").replace(
        'top: "ip" inner', 'top: "ip" blobs_lr: 1 blobs_lr: 2 inner'
    )
    v1 = text(4, "ip") + varint(5 << 3) + varint(14) + message(6, legacy(W)) + message(6, legacy(B))
    return Files(net=text_.encode(), weights=text(1, "net") + message(2, v1))


@case
def v0_layers() -> Files:
    text_ = (
        'name: "net" input: "x" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1\n'
        'layers { layer { name: "ip" type: "innerproduct" num_output: 4 blobs_lr: 1. weight_decay: 0. } bottom: "x" top: "ip" }\n'
        'layers { layer { name: "relu" type: "relu" } bottom: "ip" top: "y" }'
    )
    inner = text(1, "ip") + text(2, "innerproduct") + message(50, legacy(W)) + message(50, legacy(B))
    return Files(net=text_.encode(), weights=message(2, message(1, inner)))


@case
def v1_net_with_v2_weights() -> Files:
    return Files(net=v1_layers().net)


@case
def v2_net_with_v1_weights() -> Files:
    return Files(weights=v1_layers().weights)


# weights -------------------------------------------------------------------------------------------------------------


def legacy(array: np.ndarray) -> bytes:
    """A blob with num, channels, height, width, as Caffe of 2014 wrote it."""
    dims = (1, 1, *array.shape) if array.ndim == 2 else (1, 1, 1, *array.shape)
    return b"".join(varint(i + 1 << 3) + varint(d) for i, d in enumerate(dims)) + message(5, array.tobytes())


def weights(*blobs: bytes, before: bytes = b"", after: bytes = b"") -> Files:
    body = text(1, "ip") + text(2, "InnerProduct") + b"".join(message(7, b) for b in blobs)
    return Files(weights=before + message(100, body) + after)


def dims(array: np.ndarray) -> bytes:
    return message(7, message(1, b"".join(varint(d) for d in array.shape)))


@case
def double_weights() -> Files:
    return weights(*(dims(a) + message(8, a.astype("<f8").tobytes()) for a in (W, B)))


@case
def float16_weights() -> Files:
    """NVCaffe: raw data of type FLOAT16."""
    halves = [a.astype("<f2") for a in (W, B)]
    files = weights(*(dims(a) + varint(10 << 3) + b"\x02" + message(12, a.tobytes()) for a in halves))
    files.wanted = np.maximum(X @ halves[0].astype(np.float32).T + halves[1].astype(np.float32), 0)
    return files


@case
def unpacked_floats() -> Files:
    return weights(*(dims(a) + b"".join(b"\x2d" + struct.pack("<f", v) for v in a.ravel()) for a in (W, B)))


@case
def gradients_beside_the_weights() -> Files:
    return weights(*(blob(a) + message(6, a.tobytes()) for a in (W, B)))


@case
def layers_that_the_net_lacks() -> Files:
    other = message(100, text(1, "loss") + text(2, "SoftmaxWithLoss") + message(7, blob(W)))
    return weights(blob(W), blob(B), before=other, after=other.replace(b"loss", b"also"))


@case
def a_layer_twice_the_last_counts() -> Files:
    """Net::CopyTrainedLayersFrom copies every layer of the file into the net's layer of that name."""
    first = message(100, text(1, "ip") + text(2, "InnerProduct") + message(7, blob(W + 1)) + message(7, blob(B)))
    return weights(blob(W), blob(B), before=first, after=message(100, text(1, "ip") + text(2, "InnerProduct")))


@case
def shape_of_four_axes_for_a_matrix() -> Files:
    return weights(blob(W.reshape(1, 1, 4, 3)), blob(B.reshape(1, 1, 1, 4)))


@case
def unknown_fields_of_a_fork() -> Files:
    return weights(blob(W), blob(B), after=message(4321, b"fork") + varint(999 << 3) + b"\x01")


@case
def architecture_in_the_weights_file_alone() -> Files:
    """What Caffe's Net::ToProto writes, without a prototxt."""
    shape = message(143, message(1, message(1, varint(1) + varint(3))))
    data = message(100, text(1, "x") + text(2, "Input") + text(4, "x") + shape)
    body = text(1, "ip") + text(2, "InnerProduct") + text(3, "x") + text(4, "ip")
    body += message(7, blob(W)) + message(7, blob(B)) + message(117, varint(1 << 3) + varint(4))
    relu = message(100, text(1, "relu") + text(2, "ReLU") + text(3, "ip") + text(4, "y"))
    return Files(net=None, weights=text(1, "net") + data + message(100, body) + relu)


@case
def weights_first_net_second() -> Files:
    return Files(swapped=True)


@case
def nan_and_infinity() -> Files:
    bias = np.array([np.nan, np.inf, 0, 0], np.float32)
    files = weights(blob(W), blob(bias))
    files.wanted = np.where(np.isnan(bias), np.nan, np.maximum(X @ W.T + bias, 0))
    return files
