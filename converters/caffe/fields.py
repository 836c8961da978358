"""BVLC's field numbers, for reading a net's architecture from a caffemodel alone.

One line per message of caffe.proto (BVLC master, with the field numbers of SSD's messages above 200): name, number
and kind of each field. Kinds: i integer or enumeration, b truth value, f number, s string, a capital name the
message inside.
"""

from __future__ import annotations

import struct
from functools import cache

from netferry.converters.caffe.prototxt import Message, Scalar
from netferry.converters.caffe.wire import WireFile
from netferry.converters.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field
from netferry.errors import LimitExceeded

_MESSAGES = """
Net: name=1s layers=2V1 input=3s input_dim=4i state=6State input_shape=8Shape layer=100Layer
State: phase=1i level=2i stage=3s
Rule: phase=1i min_level=2i max_level=3i stage=4s not_stage=5s
Shape: dim=1i
Spec: name=1s share_mode=2i lr_mult=3f decay_mult=4f
Filler: type=1s value=2f min=3f max=4f mean=5f std=6f sparse=7i variance_norm=8i
Layer: name=1s type=2s bottom=3s top=4s loss_weight=5f param=6Spec include=8Rule exclude=9Rule phase=10i \
transform_param=100Transform loss_param=101Loss accuracy_param=102Accuracy argmax_param=103ArgMax \
concat_param=104Concat contrastive_loss_param=105Contrastive convolution_param=106Conv data_param=107Data \
dropout_param=108Dropout dummy_data_param=109Dummy eltwise_param=110Eltwise exp_param=111Exp \
hdf5_data_param=112Hdf5Data hinge_loss_param=114Hinge image_data_param=115ImageData infogain_loss_param=116Infogain \
inner_product_param=117InnerProduct lrn_param=118LRN memory_data_param=119Memory mvn_param=120MVN \
pooling_param=121Pool power_param=122Exp2 relu_param=123ReLU sigmoid_param=124Engine softmax_param=125Softmax \
slice_param=126Slice tanh_param=127Engine threshold_param=128Threshold window_data_param=129WindowData \
python_param=130Python prelu_param=131PReLU spp_param=132SPP reshape_param=133Reshape log_param=134Exp \
flatten_param=135Flatten reduction_param=136Reduction embed_param=137Embed tile_param=138Tile \
batch_norm_param=139BatchNorm elu_param=140ELU bias_param=141Bias scale_param=142Scale input_param=143Input \
crop_param=144Crop parameter_param=145Parameter recurrent_param=146Recurrent swish_param=147Swish clip_param=148Clip \
permute_param=202Permute prior_box_param=203PriorBox detection_output_param=204Detection norm_param=206Normalize
V1: layer=1V0 bottom=2s top=3s name=4s type=5i blobs_lr=7f weight_decay=8f concat_param=9Concat \
convolution_param=10Conv data_param=11Data dropout_param=12Dropout hdf5_data_param=13Hdf5Data \
image_data_param=15ImageData infogain_loss_param=16Infogain inner_product_param=17InnerProduct lrn_param=18LRN \
pooling_param=19Pool window_data_param=20WindowData power_param=21Exp2 memory_data_param=22Memory \
argmax_param=23ArgMax eltwise_param=24Eltwise threshold_param=25Threshold dummy_data_param=26Dummy \
accuracy_param=27Accuracy hinge_loss_param=29Hinge relu_param=30ReLU slice_param=31Slice include=32Rule \
exclude=33Rule mvn_param=34MVN loss_weight=35f transform_param=36Transform tanh_param=37Engine \
sigmoid_param=38Engine softmax_param=39Softmax contrastive_loss_param=40Contrastive exp_param=41Exp \
loss_param=42Loss param=1001s blob_share_mode=1002i
V0: name=1s type=2s num_output=3i biasterm=4b weight_filler=5Filler bias_filler=6Filler pad=7i kernelsize=8i \
group=9i stride=10i pool=11i dropout_ratio=12f local_size=13i alpha=14f beta=15f source=16s scale=17f meanfile=18s \
batchsize=19i cropsize=20i mirror=21b k=22f blobs_lr=51f weight_decay=52f rand_skip=53i new_num=60i new_channels=61i \
new_height=62i new_width=63i shuffle_images=64b concat_dim=65i
Transform: scale=1f mirror=2b crop_size=3i mean_file=4s mean_value=5f force_color=6b force_gray=7b
Loss: ignore_label=1i normalize=2b normalization=3i
Accuracy: top_k=1i axis=2i ignore_label=3i
ArgMax: out_max_val=1b top_k=2i axis=3i
Concat: concat_dim=1i axis=2i
BatchNorm: use_global_stats=1b moving_average_fraction=2f eps=3f
Bias: axis=1i num_axes=2i filler=3Filler
Clip: min=1f max=2f
Contrastive: margin=1f legacy_version=2b
Conv: num_output=1i bias_term=2b pad=3i kernel_size=4i group=5i stride=6i weight_filler=7Filler bias_filler=8Filler \
pad_h=9i pad_w=10i kernel_h=11i kernel_w=12i stride_h=13i stride_w=14i engine=15i axis=16i force_nd_im2col=17b \
dilation=18i
Crop: axis=1i offset=2i
Data: source=1s scale=2f mean_file=3s batch_size=4i crop_size=5i mirror=6b rand_skip=7i backend=8i \
force_encoded_color=9b
Dropout: dropout_ratio=1f scale_train=2b
Dummy: data_filler=1Filler num=2i channels=3i height=4i width=5i shape=6Shape
Eltwise: operation=1i coeff=2f stable_prod_grad=3b
ELU: alpha=1f
Embed: num_output=1i input_dim=2i bias_term=3b weight_filler=4Filler bias_filler=5Filler
Exp: base=1f scale=2f shift=3f
Exp2: power=1f scale=2f shift=3f
Engine: engine=1i
Flatten: axis=1i end_axis=2i
Hdf5Data: source=1s batch_size=2i shuffle=3b
Hinge: norm=1i
ImageData: source=1s scale=2f mean_file=3s batch_size=4i crop_size=5i mirror=6b rand_skip=7i shuffle=8b \
new_height=9i new_width=10i is_color=11b root_folder=12s
Infogain: source=1s axis=2i
InnerProduct: num_output=1i bias_term=2b weight_filler=3Filler bias_filler=4Filler axis=5i transpose=6b
Input: shape=1Shape
LRN: local_size=1i alpha=2f beta=3f norm_region=4i k=5f engine=6i
Memory: batch_size=1i channels=2i height=3i width=4i
MVN: normalize_variance=1b across_channels=2b eps=3f
Parameter: shape=1Shape
Pool: pool=1i kernel_size=2i stride=3i pad=4i kernel_h=5i kernel_w=6i stride_h=7i stride_w=8i pad_h=9i pad_w=10i \
engine=11i global_pooling=12b round_mode=13i
PReLU: filler=1Filler channel_shared=2b
Python: module=1s layer=2s param_str=3s share_in_parallel=4b
Recurrent: num_output=1i weight_filler=2Filler bias_filler=3Filler debug_info=4b expose_hidden=5b
Reduction: operation=1i axis=2i coeff=3f
ReLU: negative_slope=1f engine=2i
Reshape: shape=1Shape axis=2i num_axes=3i
Scale: axis=1i num_axes=2i filler=3Filler bias_term=4b bias_filler=5Filler
Slice: slice_dim=1i slice_point=2i axis=3i
Softmax: engine=1i axis=2i
SPP: pyramid_height=1i pool=2i engine=6i
Swish: beta=1f
Threshold: threshold=1f
Tile: axis=1i tiles=2i
WindowData: source=1s scale=2f mean_file=3s batch_size=4i crop_size=5i mirror=6b
Permute: order=1i
PriorBox: min_size=1f max_size=2f aspect_ratio=3f flip=4b clip=5b variance=6f img_size=7i img_h=8i img_w=9i step=10f \
step_h=11f step_w=12f offset=13f
Detection: num_classes=1i share_location=2b background_label_id=3i nms_param=4Nms code_type=6i \
variance_encoded_in_target=8b keep_top_k=7i confidence_threshold=9f
Nms: nms_threshold=1f top_k=2i eta=3f
Normalize: across_spatial=1b scale_filler=2Filler channel_shared=3b eps=4f
"""


@cache
def _schemas() -> dict[str, dict[int, tuple[str, str]]]:
    schemas: dict[str, dict[int, tuple[str, str]]] = {}
    for line in _MESSAGES.strip().splitlines():
        message, _, fields = line.partition(": ")
        numbered: dict[int, tuple[str, str]] = {}
        for entry in fields.split():
            name, _, rest = entry.partition("=")
            digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
            numbered[int(digits)] = (name, rest[len(digits) :])
        schemas[message] = numbered
    return schemas


def decode_net(wire: WireFile) -> Message:
    """Return the NetParameter of a caffemodel as a message like a parsed prototxt, without the blobs."""
    return _decode(wire, 0, wire.size, "Net", 0)


def _decode(wire: WireFile, start: int, end: int, message: str, depth: int) -> Message:
    if depth > wire.limits.nesting:
        raise LimitExceeded(f"messages nested deeper than {wire.limits.nesting} (limit nesting)", file=wire.path)
    out, schema = Message(), _schemas()[message]
    for f in wire.fields(start, end):
        known = schema.get(f.number)
        if known is None:
            continue
        name, kind = known
        if kind[0].isupper():
            if f.kind != BYTES:
                raise wire.fail(f"{name} is not a message", f.start)
            out.add(name, _decode(wire, f.start, f.end, kind, depth + 1))
        elif kind == "s":
            out.add(name, Scalar(wire.text(f), quoted=True))
        elif kind == "f":
            for number in _floats(wire, f):
                out.add(name, Scalar(repr(number)))
        else:
            for number in wire.varints(f):
                out.add(name, Scalar(str(number)))
    return out


def _floats(wire: WireFile, f: Field) -> list[float]:
    if f.kind == VARINT:
        raise wire.fail("a float is expected", f.start)
    if f.kind == FIXED64:
        return [struct.unpack("<d", wire.read(f.start, 8))[0]]
    count = (f.end - f.start) // 4
    if f.kind != FIXED32 and count > 4096:
        raise wire.fail("more than 4096 numbers in one setting", f.start)
    # the shortest decimal that gives the float32 back, so that a file and its prototxt read alike
    import numpy as np

    values = np.frombuffer(wire.read(f.start, count * 4), "<f4")
    return [float(str(v)) for v in values]
