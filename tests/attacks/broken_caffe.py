"""Broken prototxts: text, wiring and settings of layers that nothing justifies."""

from __future__ import annotations

import gzip

from tests.attacks import unusual_caffe
from tests.attacks.making import Make, net

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""

_NET, _BLOBS = unusual_caffe.NET, unusual_caffe.stored()
_HEAD = _NET.partition("layer {")[0].replace("dim: 1 dim: 3", "dim: 1 dim: 3 dim: 8 dim: 8")


def _one(body: str, head: str = _HEAD) -> Make:
    """A network of one layer."""
    return net(head + f'layer {{ name: "l" bottom: "x" top: "y" {body} }}')


CASES |= {
    "caffe-input-made-again": net(_NET + 'layer { name: "z" type: "ReLU" bottom: "y" top: "x" }', _BLOBS),
    "caffe-top-twice-in-an-unknown-layer": _one('top: "y" type: "Warp"'),
    "caffe-slice-without-tops": net(_HEAD + 'layer { name: "l" bottom: "x" type: "Slice" }'),
    "caffe-bottom-later": net(_NET.replace('bottom: "x" top: "ip"', 'bottom: "y" top: "ip"'), _BLOBS),
    "caffe-unclosed-string": net(_NET.replace('"relu"', '"relu'), _BLOBS),
    "caffe-unknown-escape": net(_NET.replace('"relu"', '"\\q"'), _BLOBS),
    "caffe-closed-too-often": net(_NET + "}", _BLOBS),
    "caffe-utf-16": net(_NET.encode("utf-16")),
    "caffe-nul": net(_NET.replace("relu", "re\0lu"), _BLOBS),
    "caffe-number-of-two-points": net(_NET.replace("num_output: 4", "num_output: 4.4.4"), _BLOBS),
    "caffe-number-of-arabic-digits": net(_NET.replace("num_output: 4", "num_output: \u0664"), _BLOBS),
    "caffe-number-is-text": net(_NET.replace("num_output: 4", 'num_output: "4"'), _BLOBS),
    "caffe-number-missing": net(_NET.replace("num_output: 4", ""), _BLOBS),
    "caffe-name-of-100-kilobytes": net(_NET.replace("inner_product_param", "i" * 100_000), _BLOBS),
    "caffe-gzipped": net(gzip.compress(_NET.encode())),
    "caffe-type-missing": net(_NET.replace('type: "ReLU"', ""), _BLOBS),
    "caffe-type-empty": net(_NET.replace('"ReLU"', '""'), _BLOBS),
    "caffe-v1-type-unknown": net(_NET.replace("layer {", "layers {").replace('type: "ReLU"', "type: RELUX").replace('"InnerProduct"', "INNER_PRODUCT"), _BLOBS),
    "caffe-no-bottom": net(_NET.replace('bottom: "ip" ', ""), _BLOBS),
    "caffe-no-top": net(_NET.replace('top: "y"', ""), _BLOBS),
    "caffe-bottom-of-nobody": net(_NET.replace('bottom: "ip"', 'bottom: "nobody"'), _BLOBS),
    "caffe-bottom-empty": net(_NET.replace('bottom: "ip"', 'bottom: ""'), _BLOBS),
    "caffe-python-data-without-a-shape": net('layer { name: "d" type: "Python" top: "x" python_param { module: "os" layer: "system" } }' + _NET.partition("}")[2], _BLOBS),
    "caffe-solver-with-a-net": net("net_param { " + _NET + " } base_lr: 0.1"),
    "caffe-top-twice": net(_NET.replace('top: "y"', 'top: "y" top: "y"'), _BLOBS),
    "caffe-two-bottoms-for-one": net(_NET.replace('bottom: "ip"', 'bottom: "ip" bottom: "x"'), _BLOBS),
    "caffe-cycle": net(_NET.replace('bottom: "x" top: "ip"', 'bottom: "y" top: "ip"') + 'layer { name: "p" type: "ReLU" bottom: "x" top: "q" }', _BLOBS),
    "caffe-10000-inputs-of-one-name": net('input: "x" input_shape { dim: 1 } ' * 10_000 + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'),
    "caffe-60000-fields-and-no-end": net(_NET + "a: 1 " * 60_000 + "b {", _BLOBS),
    "caffe-nothing-but-comments": net("# a net\n# of comments\nname: 'net'\n"),
    "caffe-dim-0": net(_NET.replace("dim: 3", "dim: 0"), _BLOBS),
    "caffe-dim-negative": net(_NET.replace("dim: 3", "dim: -3"), _BLOBS),
    "caffe-dim-huge": net(_NET.replace("dim: 3", "dim: 9223372036854775807"), _BLOBS),
    "caffe-num-output-float": net(_NET.replace("num_output: 4", "num_output: 1e1"), _BLOBS),
    "caffe-num-output-nan": net(_NET.replace("num_output: 4", "num_output: nan"), _BLOBS),
    "caffe-num-output-0": net(_NET.replace("num_output: 4", "num_output: 0"), _BLOBS),
    "caffe-num-output-huge": net(_NET.replace("num_output: 4", "num_output: 4294967295"), _BLOBS),
    "caffe-num-output-beyond-32-bits": net(_NET.replace("num_output: 4", "num_output: 4294967300"), _BLOBS),
    "caffe-conv-kernel-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 0 }'),
    "caffe-conv-stride-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 stride: 0 }'),
    "caffe-conv-group-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 group: 0 }'),
    "caffe-conv-group-that-does-not-divide": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 group: 2 }'),
    "caffe-conv-pad-huge": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 2147483647 }'),
    "caffe-conv-larger-than-its-input": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 30 }'),
    "caffe-conv-kernel-of-four-numbers": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: [3, 3, 3, 3] }'),
    "caffe-pool-kernel-0": _one('type: "Pooling" pooling_param { pool: MAX kernel_size: 0 }'),
    "caffe-pool-unknown": _one('type: "Pooling" pooling_param { pool: WARP kernel_size: 2 }'),
    "caffe-reshape-of-two-unknowns": _one('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }'),
    "caffe-reshape-that-does-not-fit": _one('type: "Reshape" reshape_param { shape { dim: 1 dim: 7 } }'),
    "caffe-slice-in-no-order": _one('type: "Slice" top: "z" top: "u" slice_param { axis: 1 slice_point: 2 slice_point: 1 }'),
    "caffe-slice-of-three-by-two": _one('type: "Slice" top: "z" slice_param { axis: 1 }'),
    "caffe-concat-axis-9": _one('type: "Concat" bottom: "x" concat_param { axis: 9 }'),
    "caffe-eltwise-coefficients": _one('type: "Eltwise" bottom: "x" eltwise_param { operation: SUM coeff: 1 }'),
    "caffe-permute-of-one-axis-twice": _one('type: "Permute" permute_param { order: 1 order: 1 }'),
    "caffe-lrn-of-an-even-size": _one('type: "LRN" lrn_param { local_size: 4 }'),
    "caffe-softmax-axis-9": _one('type: "Softmax" softmax_param { axis: 9 }'),
    "caffe-tile-0": _one('type: "Tile" tile_param { tiles: 0 }'),
    "caffe-tile-of-terabytes": _one('type: "Tile" tile_param { axis: 3 tiles: 2147483647 }'),
    "caffe-bool-unknown": _one('type: "InnerProduct" inner_product_param { num_output: 2 bias_term: maybe }'),
    "caffe-message-for-a-text": net(_NET.replace('type: "ReLU"', "type { a: 1 }"), _BLOBS),
    "caffe-message-for-texts": net(_NET.replace('bottom: "ip"', 'bottom: "ip" bottom { a: 1 }'), _BLOBS),
    "caffe-two-shapes-for-three": net('layer { name: "i" type: "Input" top: "a" top: "b" top: "c" input_param { shape { dim: 1 } shape { dim: 2 } } } layer { name: "r" type: "ReLU" bottom: "a" top: "y" }'),
    "caffe-no-inputs": net('layer { name: "r" type: "ReLU" top: "y" }'),
    "caffe-everything-silenced": net(_HEAD + 'layer { name: "s" type: "Silence" bottom: "x" }'),
    "caffe-priors-without-picture": _one('type: "PriorBox" prior_box_param { min_size: 8 }'),
    "caffe-priors-of-two-sizes": _one('type: "PriorBox" prior_box_param { min_size: 8 img_size: 8 img_h: 8 img_w: 8 }'),
    "caffe-priors-without-number": _one('type: "PriorBox" bottom: "x" prior_box_param { min_size: 8 aspect_ratio: [' + "2, " * 2000 + "2] }"),
    "caffe-layer-is-a-number": net("layer: 4\n" + _NET, _BLOBS),
    "caffe-detections-that-keep-nothing": _one('type: "DetectionOutput" bottom: "x" bottom: "x" detection_output_param { num_classes: 2 keep_top_k: 0 }'),
    "caffe-detections-without-priors": _one('type: "DetectionOutput" bottom: "x" bottom: "x" detection_output_param { num_classes: 2 }'),
    "caffe-message-for-a-number": net(_NET.replace("num_output: 4", "num_output { a: 4 }"), _BLOBS),
    "caffe-number-for-a-message": net(_NET.replace("inner_product_param { num_output: 4 }", "inner_product_param: 4"), _BLOBS),
    "caffe-brackets-do-not-match": net(_NET.replace("num_output: 4 }", "num_output: 4 >"), _BLOBS),
}  # fmt: skip
