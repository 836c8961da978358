"""Broken cfg files of Darknet, and weights that do not fit theirs."""

from __future__ import annotations

import gzip
import struct

from tests.attacks import unusual_darknet
from tests.attacks.making import Make, darknet, stored

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""

_CFG = unusual_darknet.NET
_CONV = "[net]\nheight=8\nwidth=8\nchannels=3\n[convolutional]\nfilters=2\nsize=3\nstride=1\npad=1\nactivation=linear\n"
CASES |= {
    "darknet-gzipped": stored("net.cfg", gzip.compress(_CFG.encode())),
    "darknet-section-without-name": darknet(_CFG + "[]\n"),
    "darknet-section-never-closed": darknet(_CFG.replace("[connected]", "[connected")),
    "darknet-setting-before-a-section": darknet("height=1\n" + _CFG),
    "darknet-no-net": darknet("[connected]\noutput=4\n"),
    "darknet-net-twice": darknet(_CFG.replace("[connected]", "[net]\nheight=2\n[connected]")),
    "darknet-only-a-net": darknet(_CFG.partition("[connected]")[0]),
    "darknet-utf-16": stored("net.cfg", _CFG.encode("utf-16")),
    "darknet-filters-0": stored("net.cfg", (_CONV.replace("filters=2", "filters=0")).encode()),
    "darknet-filters-negative": stored("net.cfg", (_CONV.replace("filters=2", "filters=-2")).encode()),
    "darknet-size-0": stored("net.cfg", (_CONV.replace("size=3", "size=0")).encode()),
    "darknet-stride-0": stored("net.cfg", (_CONV.replace("stride=1", "stride=0")).encode()),
    "darknet-groups-that-do-not-divide": stored("net.cfg", (_CONV + "groups=2\n").encode()),
    "darknet-route-to-itself": stored("net.cfg", (_CONV + "[route]\nlayers=1\n").encode()),
    "darknet-route-of-nothing": stored("net.cfg", (_CONV + "[route]\nlayers=\n").encode()),
    "darknet-route-of-a-word": stored("net.cfg", (_CONV + "[route]\nlayers=first\n").encode()),
    "darknet-shortcut-before-the-first": stored("net.cfg", (_CONV + "[shortcut]\nfrom=-9\nactivation=linear\n").encode()),
    "darknet-yolo-mask-beyond": stored("net.cfg", (_CONV + "[yolo]\nmask=7,8,9\nanchors=1,2\nclasses=1\nnum=1\n").encode()),
    "darknet-yolo-of-other-channels": stored("net.cfg", (_CONV + "[yolo]\nmask=0\nanchors=1,2\nclasses=80\nnum=1\n").encode()),
    **{
        f"darknet-{name}": stored("net.cfg", (_CONV + sections).encode())
        for name, sections in {
            "route-groups-that-do-not-divide": "[route]\nlayers=-1\ngroups=3\ngroup_id=0\n",
            "shortcut-from-nothing": "[shortcut]\nactivation=linear\n",
            "shortcut-weights-unknown": "[shortcut]\nfrom=-1\nweights_type=per_pixel\nactivation=linear\n",
            "shortcut-normalization-unknown": "[convolutional]\nfilters=2\nsize=1\nstride=1\nactivation=linear\n"
            "[shortcut]\nfrom=-2\nweights_type=per_feature\nweights_normalization=half\nactivation=linear\n",
            "scale-channels-of-a-picture": "[convolutional]\nfilters=2\nsize=1\nstride=1\nactivation=linear\n"
            "[scale_channels]\nfrom=-2\nactivation=linear\n",
            "sam-of-other-shape": "[maxpool]\nsize=2\nstride=2\n[sam]\nfrom=-2\nactivation=linear\n",
            "shares-no-convolution": "[maxpool]\nsize=2\nstride=2\n"
            "[convolutional]\nfilters=2\nsize=3\nstride=1\npad=1\nshare_index=1\nactivation=linear\n",
            "shares-weights-of-other-shape": "[convolutional]\nfilters=2\nsize=5\nstride=1\npad=1\nshare_index=0\nactivation=linear\n",
            "antialiasing": "[maxpool]\nsize=2\nstride=2\nantialiasing=1\n",
            "maxpool-of-more-channels": "[maxpool]\nmaxpool_depth=1\nout_channels=9\nsize=1\nstride=1\n",
            "reorg-extra": "[reorg]\nstride=2\nextra=5\n",
            "anchors-infinite": "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=linear\n[yolo]\nmask=0\nanchors=inf,2\nclasses=1\nnum=1\n",
            "tree-that-is-not-there": "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=linear\n"
            "[region]\nanchors=1,2\nclasses=1\nnum=1\ntree=none.tree\n",
            "number-beyond-32-bits": "[maxpool]\nsize=4294967298\nstride=1\n",
        }.items()
    },
    "darknet-weights-nan-sizes": darknet(_CFG.replace("output=4", "output=nan")),
    "darknet-weights-too-many": darknet(_CFG, unusual_darknet.stored() + bytes(40_000)),
}  # fmt: skip


CASES |= {
    "darknet-weights-short": darknet(unusual_darknet.NET, unusual_darknet.stored()[:-4]),
    "darknet-weights-empty": darknet(unusual_darknet.NET, b""),
    "darknet-weights-a-header": darknet(unusual_darknet.NET, struct.pack("<3iQ", 0, 2, 5, 0)),
    "darknet-weights-are-text": darknet(unusual_darknet.NET, b"text\n" * 50),
    "darknet-output-missing": darknet(unusual_darknet.NET.replace("output=4", "output=")),
    "darknet-output-infinite": darknet(unusual_darknet.NET.replace("output=4", "output=inf")),
    "darknet-output-of-arabic-digits": darknet(unusual_darknet.NET.replace("output=4", "output=\u0664")),
    "darknet-output-hexadecimal": darknet(unusual_darknet.NET.replace("output=4", "output=0x10000000")),
    "darknet-nul": darknet(unusual_darknet.NET.replace("leaky", "le\0aky")),
}  # fmt: skip
