"""The command lines of tensorrt_demos, `python3 trt_ssd.py --usb 0 --model ssd_mobilenet_v1_coco`, in ssdrt's words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SOURCES = ("--image", "--video", "--rtsp", "--usb", "--gstr", "--onboard")
"""The first of these that is given counts, as there."""

MARKS = frozenset((*SOURCES, "-m", "--model", "--filename", "--uri", "--vid", "--file"))
"""An option of these makes a command line one of theirs; `--width` and the like are options here too."""

MODELS = {
    "ssd_mobilenet_v1_coco": "ssd_mobilenet_v1_coco_2018_01_28",
    "ssd_mobilenet_v2_coco": "ssd_mobilenet_v2_coco_2018_03_29",
    "ssd_inception_v2_coco": "ssd_inception_v2_coco_2018_01_28",
    "ssdlite_mobilenet_v2_coco": "ssdlite_mobilenet_v2_coco_2018_05_09",
}
"""Its names of models -> the zoo's. Its hand detectors (egohands) are in no zoo: give their .pb."""

ELSEWHERE = ("-o", "--output", "--json", "--web", "--show")


def translate(words: Sequence[str]) -> list[str]:
    """The words after `ssdrt detect`, with MODEL and INPUT in their places; others are left as they are.

    The window, which was all that the predecessor had, is asked for unless another output is.
    """
    if not MARKS.intersection(word.partition("=")[0] for word in words):
        return list(words)
    parser = argparse.ArgumentParser("ssdrt detect", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--image", nargs="?", const="")
    for name in ("--video", "--gstr", "--filename", "--uri"):
        parser.add_argument(name)
    parser.add_argument("--rtsp", nargs="?", const="")
    parser.add_argument("--usb", nargs="?", const="", type=str)
    parser.add_argument("--onboard", nargs="?", const="0")
    parser.add_argument("--vid", default="0")
    parser.add_argument("--file", action="store_true")
    parser.add_argument("--copy_frame", action="store_true")  # each frame is a copy here
    given, rest = parser.parse_known_args(list(words))
    video = given.filename if given.file else given.video
    image = given.image if given.image != "" else given.filename
    usb = None if given.usb is None else f"camera:{given.usb or given.vid}"
    pipeline = None if given.gstr is None else f"gst:{given.gstr}"
    onboard = None if given.onboard is None else f"csi:{given.onboard}"
    rtsp = given.uri if given.rtsp == "" else given.rtsp
    model = given.model or "ssd_mobilenet_v1_coco"
    model = MODELS.get(model, model)
    source = next((one for one in (image, video, rtsp, usb, pipeline, onboard) if one is not None), None)
    if source is None:
        return [*([model] if given.model else []), *rest]
    show = [] if any(word.partition("=")[0] in ELSEWHERE for word in rest) else ["--show"]
    return [model, source, *rest, *show]
