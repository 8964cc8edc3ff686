"""From what a user types to a `Stream`: cameras, network streams, the screen, GStreamer pipelines and a test scene."""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from ssdrt.errors import SourceError, shorten
from ssdrt.sources.credentials import hide_credentials

Size = tuple[int, int]
"""Width and height in pixels."""

KINDS = {
    "camera": "camera:0 or /dev/video0, ?size=1280x720&rate=30&format=mjpeg",
    "rtsp": "rtsp://, rtsps:// (TLS), rtspu:// (over UDP)",
    "http": "http(s):// with MJPEG, HLS (.m3u8) or a video",
    "csi": "csi:0, a board's own camera, through GStreamer, ?size=1280x720&rate=30",
    "gst": "gst:PIPELINE, a GStreamer pipeline without its sink",
    "screen": "screen: or screen::0.0, ?size=1280x720&rate=10",
    "test": "test: a synthetic moving scene, ?size=640x480&rate=30&frames=100",
}
"""Kind -> how it is written. An http address is looked at before it is taken for a stream: `url.kind_of`."""

RTSP = {"rtsp": "tcp", "rtspt": "tcp", "rtspu": "udp", "rtsps": "tcp"}
"""Scheme -> transport of the pictures; the names are GStreamer's."""


@dataclass(frozen=True)
class Stream:
    """What a capture process opens.

    name: what the user typed, without credentials.
    reader: "av" opens `url` with FFmpeg's `format` (None: it finds out) and `options`; "gstreamer" runs the first of
    `pipelines` whose first element is installed; "scene" draws.
    ends: its end is an end, as a file's is; the end of others is a failure, after which they are opened again. None:
    if it has a duration when it is opened.
    size, rate, frames: of the scene. rate is frames a second.
    """

    name: str
    reader: Literal["av", "gstreamer", "scene"]
    url: str = ""
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    pipelines: tuple[str, ...] = ()
    ends: bool | None = False
    size: Size = (640, 480)
    rate: float = 30.0
    frames: int | None = None


def parse_stream(text: str, size: Size | None = None, latency: float | None = None) -> Stream | None:
    """The stream that `text` names as `KINDS` says; None when it is no stream but a file, list or photo.

    Parameters
    ----------
    size: of a camera, of the screen and of `{width}` and `{height}` in a pipeline, where `text` does not say it.
    latency: seconds that RTSP waits for packets that come out of order over UDP.

    Raises
    ------
    SourceError: a stream, but with an option that is unknown or wrong.
    """
    if re.fullmatch(r"/dev/video\d+", text.partition("?")[0]):
        text = "camera:" + text.removeprefix("/dev/video")
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon:
        return None
    if scheme in RTSP and rest.startswith("//"):
        return _rtsp(scheme, rest, latency)
    if scheme in ("http", "https") and rest.startswith("//"):
        from ssdrt.sources.url import kind_of  # brings urllib.request, a tenth of ssdrt's whole start

        return _http(text) if kind_of(text) == "stream" else None
    if scheme == "gst":
        return _pipeline(text, rest, size or (640, 480))
    if scheme in ("camera", "csi", "screen", "test"):
        rest, options = parse_options(text, rest, KINDS[scheme])
        return {"camera": _camera, "csi": _csi, "screen": _screen, "test": _test}[scheme](text, rest, options, size)
    return None


def _rtsp(scheme: str, rest: str, latency: float | None) -> Stream:
    if not re.match(r"//([^/?#]*@)?(?![^/?#]*@)[^/:?#]", rest):
        raise SourceError(f"{shorten(hide_credentials(f'{scheme}:{rest}'))!r} names no host; write {scheme}://HOST/...")
    options = {
        "rtsp_transport": RTSP[scheme],
        "protocol_whitelist": "rtp,rtsp,rtsps,srtp,tcp,tls,udp",
        "fpsprobesize": "0",  # opening takes half as long
        "allowed_media_types": "video",
        "fflags": "noparse",  # `rtp.frames_of` does it sooner
    }
    if latency is not None:
        options["max_delay"] = str(round(latency * 1e6))
    url = f"{'rtsps' if scheme == 'rtsps' else 'rtsp'}:{rest}"
    return Stream(hide_credentials(f"{scheme}:{rest}"), "av", url, options=options)


def _http(text: str) -> Stream:
    options = {
        "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto,data",
        "fpsprobesize": "0",  # opening takes half as long
    }
    return Stream(hide_credentials(text), "av", text, options=options, ends=None)


def _camera(text: str, rest: str, options: dict[str, str], size: Size | None) -> Stream:
    number = _whole(text, rest or "0")
    form, url = ("avfoundation", str(number)) if sys.platform == "darwin" else ("v4l2", f"/dev/video{number}")
    wanted = _some(video_size=_size(options, size), framerate=options.get("rate"), input_format=options.get("format"))
    return Stream(text, "av", url, form, wanted)


def _screen(text: str, rest: str, options: dict[str, str], size: Size | None) -> Stream:
    form, url = "x11grab", rest or os.environ.get("DISPLAY", "")
    if sys.platform == "darwin":
        form, url = "avfoundation", f"Capture screen {rest or 0}"
    if not url:
        raise SourceError("screen: needs an X display, and DISPLAY is not set")
    return Stream(text, "av", url, form, _some(video_size=_size(options, size), framerate=options.get("rate", "10")))


def _csi(text: str, rest: str, options: dict[str, str], size: Size | None) -> Stream:
    number = _whole(text, rest or "0")
    width, _, height = (_size(options, size) or "1280x720").partition("x")
    rate = Fraction(options.get("rate", "30"))
    form = f"width={width},height={height},framerate={rate.numerator}/{rate.denominator}"
    jetson = f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),{form} ! nvvidconv"
    # libcamera knows its cameras by long names of the board's: the first is the only one that can be given a number.
    others = () if number else (f"libcamerasrc ! video/x-raw,{form}",)
    return Stream(text, "gstreamer", pipelines=(f"{jetson} ! video/x-raw,format=I420", *others))


def _pipeline(text: str, rest: str, size: Size) -> Stream:
    pipeline = rest.replace("{width}", str(size[0])).replace("{height}", str(size[1]))
    pipeline = re.sub(r"!\s*appsink[^!]*$", "", pipeline).strip().removesuffix("!").strip()
    if not pipeline:
        raise SourceError(f"{shorten(text)!r} is no pipeline; write gst: and what gst-launch-1.0 takes, less the sink")
    return Stream(hide_credentials(f"gst:{pipeline}"), "gstreamer", pipelines=(pipeline,), ends=True)


def _test(text: str, rest: str, options: dict[str, str], size: Size | None) -> Stream:
    if rest:
        raise SourceError(f"{shorten(text)!r} is written {KINDS['test']}")
    width, _, height = (_size(options, size) or "640x480").partition("x")
    rate, frames = float(options.get("rate", "30")), options.get("frames")
    return Stream(text, "scene", size=(int(width), int(height)), rate=rate, frames=int(frames) if frames else None,
                  ends=True)  # fmt: skip


OPTIONS = {
    "size": r"[1-9]\d{0,4}x[1-9]\d{0,4}",
    "rate": r"[1-9]\d{0,3}(\.\d{1,3})?|0\.(?=\d*[1-9])\d{1,3}",
    "format": r"[a-z0-9_]{1,20}",
    "frames": r"[1-9]\d{0,9}",
}
"""Option -> what it looks like."""


def parse_options(text: str, rest: str, known: str) -> tuple[str, dict[str, str]]:
    """What stands before the question mark of `rest`, and the options after it.

    Raises
    ------
    SourceError: an option that is none of `OPTIONS`, or not in `known`, which the message says.
    """
    rest, _, query = rest.partition("?")
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if f"{name}=" not in known or name not in OPTIONS or not re.fullmatch(OPTIONS[name], value):
            raise SourceError(f"{shorten(text)!r}: {name}={value} is not understood; write {known}")
    return rest, options


def _size(options: dict[str, str], size: Size | None) -> str:
    """WIDTHxHEIGHT as FFmpeg wants it; "" is the device's own."""
    return options.get("size", f"{size[0]}x{size[1]}" if size else "")


def _some(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value}


def _whole(text: str, number: str) -> int:
    if not re.fullmatch(r"\d{1,3}", number):
        raise SourceError(f"{shorten(text)!r}: {number!r} is not the number of a camera")
    return int(number)
