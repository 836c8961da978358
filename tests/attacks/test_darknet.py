"""Hostile and broken Darknet files: each ends in one typed error, in little time and memory, with nothing left behind."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.errors import NetferryError
from tests.converters.darknet.running import packed

NET = "[net]\nheight=8\nwidth=8\nchannels=3\n"
BIG = 2**31 - 1

NETS: dict[str, tuple[str, int]] = {
    # name: (cfg, exit code of the error)
    "only-net": (NET, 4),
    "net-twice": (NET + NET, 7),
    "setting-first": ("height=3\n" + NET, 4),
    "no-net-first": ("[convolutional]\nfilters=2\n", 4),
    "no-size": ("[net]\n[avgpool]\n", 4),
    "no-equals": (NET + "[avgpool]\nnonsense\n", 4),
    "unclosed": (NET + "[avgpool\n", 4),
    "long-section": (NET + "[" + "a" * 5000 + "]\n", 4),
    "many-sections": (NET + "[avgpool]\n" * 100_001, 5),
    "unknown": (NET + "[warp]\n[avgpool]\n[weft]\n", 7),
    "height-negative": (NET.replace("height=8", "height=-8") + "[avgpool]\n", 4),
    "height-huge": (NET.replace("height=8", f"height={BIG}") + "[avgpool]\n", 5),
    "height-beyond-int": (NET.replace("height=8", "height=99999999999999999999") + "[avgpool]\n", 4),
    "height-no-number": (NET.replace("height=8", "height=tall") + "[avgpool]\n", 4),
    "digits-without-end": (NET.replace("height=8", "height=" + "9" * 100_000) + "[avgpool]\n", 4),
    "filters-huge": (NET + f"[convolutional]\nfilters={BIG}\nsize=3\n", 5),
    "filters-zero": (NET + "[convolutional]\nfilters=0\n", 4),
    "size-huge": (NET + f"[convolutional]\nsize={BIG}\n", 4),
    "padding-huge": (NET + f"[convolutional]\nsize=3\npadding={BIG}\n", 5),
    "stride-zero": (NET + "[convolutional]\nstride=0\n", 4),
    "groups-zero": (NET + "[convolutional]\ngroups=0\n", 4),
    "groups-uneven": (NET + "[convolutional]\nfilters=4\ngroups=2\n", 4),
    "kernel-over-image": (NET + "[convolutional]\nsize=11\n", 4),
    "activation-unknown": (NET + "[convolutional]\nactivation=boom\n", 7),
    "connected-huge": (NET + f"[connected]\noutput={BIG}\n", 5),
    "maxpool-padding-huge": (NET + f"[maxpool]\nsize=2\nstride=1\npadding={BIG}\n", 5),
    "upsample-huge": (NET + "[upsample]\nstride=100000\n", 5),
    "upsample-least": (NET + f"[upsample]\nstride={-BIG - 1}\n", 7),
    "reorg-uneven": (NET + "[reorg]\nstride=3\n", 7),
    "crop-over-image": (NET + "[crop]\ncrop_height=9\ncrop_width=9\n", 4),
    "route-forward": (NET + "[route]\nlayers=1\n[avgpool]\n", 4),
    "route-itself": (NET + "[avgpool]\n[route]\nlayers=1\n", 4),
    "route-before-begin": (NET + "[avgpool]\n[route]\nlayers=-2\n", 4),
    "route-nothing": (NET + "[route]\nlayers=\n", 4),
    "route-group-beyond": (NET + "[activation]\n[route]\nlayers=0\ngroups=3\ngroup_id=3\n", 4),
    "shortcut-forward": (NET + "[shortcut]\nfrom=0\n", 4),
    "shortcut-mask-huge": (
        NET.replace("8", "8000")
        + "[activation]\n[maxpool]\nsize=1\nstride=1\n[crop]\ncrop_height=7000\ncrop_width=7000\n[shortcut]\nfrom=0\nalpha=2\n",
        5,
    ),
    "softmax-groups": (NET + "[softmax]\ngroups=7\n", 4),
    "softmax-tree": (NET + "[softmax]\ntree=../../../etc/passwd\n", 6),
    "softmax-cold": (NET + "[softmax]\ntemperature=0\n", 4),
    "lrn-table-huge": ("[net]\nheight=1\nwidth=1\nchannels=100000\n[normalization]\n", 5),
    "local-table-huge": (NET.replace("8", "4000") + "[local]\nsize=2000\nfilters=1\n", 5),
    "yolo-channels": (NET + "[yolo]\nclasses=5\nnum=1\n", 4),
    "yolo-num-huge": (NET + f"[yolo]\nclasses=1\nnum={BIG}\n", 5),
    "yolo-mask-beyond": (NET.replace("channels=3", "channels=6") + "[yolo]\nclasses=1\nnum=2\nmask=7\n", 4),
    "yolo-anchors-few": (NET.replace("channels=3", "channels=6") + "[yolo]\nclasses=1\nnum=1\nanchors=3\n", 4),
    "yolo-anchors-infinite": (
        NET.replace("channels=3", "channels=6") + "[yolo]\nclasses=1\nnum=1\nanchors=1e39,1\n",
        4,
    ),
    "detection-numbers": (NET + "[detection]\nside=7\n", 4),
    "share-index-forward": (NET + "[convolutional]\nshare_index=5\n", 4),
    "rnn-huge": (NET + f"[lstm]\noutput={BIG}\n", 5),
    "numload": (NET + "[convolutional]\nnumload=1\n", 7),
    "binary-noise": ("[net]\x00\x01\x02", 4),
}


@pytest.mark.parametrize("name", NETS)
def test_nets(tmp_path: Path, name: str) -> None:
    text, code = NETS[name]
    (tmp_path / "net.cfg").write_bytes(text.encode())
    started = time.process_time()
    with pytest.raises(NetferryError) as caught:
        netferry.convert(tmp_path / "net.cfg", tmp_path / "out" / "net.onnx", check="structure")
    assert caught.value.exit_code == code, str(caught.value)
    assert caught.value.file
    assert time.process_time() - started < 4
    assert [p.name for p in tmp_path.iterdir()] == ["net.cfg"]


CONV = NET + "[convolutional]\nfilters=4\nsize=3\nbatch_normalize=1\n[connected]\noutput=5\n"
NUMBERS = 4 * 4 + 4 * 3 * 9 + 5 + 5 * 4 * 36
GOOD = packed([np.zeros(NUMBERS)])
WEIGHTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "header-only": lambda: GOOD[:20],
    "half-a-header": lambda: GOOD[:9],
    "header-cut-in-seen": lambda: GOOD[:17],
    "half": lambda: GOOD[: len(GOOD) // 2],
    "one-byte-short": lambda: GOOD[:-1],
    "one-number-short": lambda: GOOD[:-4],
    "one-byte-more": lambda: GOOD + b"\0",
    "another-layer-more": lambda: GOOD + bytes(4 * NUMBERS),
    "text": lambda: b"hello, these are no weights at all, only words\n" * 80,
    "version-negative": lambda: struct.pack("<3iQ", -1, 2, 0, 0) + GOOD[20:],
    "version-absurd": lambda: struct.pack("<3iQ", BIG, BIG, BIG, 0) + GOOD[20:],
    "ones": lambda: b"\xff" * len(GOOD),
    "old-header-new-size": lambda: struct.pack("<3i", 0, 1, 0) + GOOD[12:],
    "a-cfg-again": CONV.encode,
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("first", ["cfg", "weights"])
def test_weights(tmp_path: Path, name: str, first: str) -> None:
    files = {"cfg": tmp_path / "net.cfg", "weights": tmp_path / "net.weights"}
    files["cfg"].write_text(CONV)
    files["weights"].write_bytes(WEIGHTS[name]())
    second = "weights" if first == "cfg" else "cfg"
    with pytest.raises(NetferryError) as caught:
        netferry.convert(files[first], tmp_path / "net.onnx", files[second], check="structure")
    assert caught.value.exit_code in (4, 8), str(caught.value)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.cfg").write_text(CONV)
    (tmp_path / "net.weights").write_bytes(GOOD)
    netferry.convert(tmp_path / "net.cfg", tmp_path / "net.onnx", tmp_path / "net.weights", check="run")
    netferry.load(tmp_path / "net.weights", tmp_path / "net.cfg")


def test_weights_alone_name_their_cfg(tmp_path: Path) -> None:
    (tmp_path / "net.weights").write_bytes(GOOD)
    with pytest.raises(NetferryError, match="needs its cfg") as caught:
        netferry.load(tmp_path / "net.weights")
    assert caught.value.exit_code == 2


def test_an_unknown_section_without_weights_is_a_placeholder(tmp_path: Path) -> None:
    (tmp_path / "net.cfg").write_text(NET + "[warp]\nspeed=9\n[avgpool]\n")
    model = netferry.load(tmp_path / "net.cfg")
    assert [n.op_type for n in model.placeholders()] == ["warp"]
    (tmp_path / "net.weights").write_bytes(packed([]))
    with pytest.raises(NetferryError) as caught:
        netferry.load(tmp_path / "net.cfg", tmp_path / "net.weights")
    assert caught.value.exit_code == 7
    assert "warp" in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_mutations(tmp_path: Path, seed: int) -> None:
    """Bytes of a real-looking cfg changed at random: an error of ours, or a net; never anything else."""
    rng = np.random.default_rng(seed)
    text = bytearray((CONV + "[route]\nlayers=-2\n[maxpool]\nsize=2\nstride=2\n[softmax]\n").encode())
    for _ in range(4):
        text[int(rng.integers(len(text)))] = int(rng.choice(list(b"0123456789-=[],.#\nabz\xff")))
    (tmp_path / "net.cfg").write_bytes(bytes(text))
    with suppress(NetferryError):
        netferry.load(tmp_path / "net.cfg", format="darknet")
