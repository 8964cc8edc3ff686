"""The capture process: opens one stream, decodes it, and gives its parent the newest frame when it asks for one.

A read that blocks cannot be ended by a thread, but a process can be killed, and so each live source is read by one of
these. It is a plain program, started by `process.CaptureProcess`:

    standard input    one line of JSON, the `Stream`; then a byte for each frame that the parent wants; the end of it
                      means that nobody wants anything more, also when the parent was killed
    a shared memory   pixels of the one frame that was asked for
    standard output   lines of JSON: {"opened": ...}, {"tick": n, "at": t} for each frame that came, {"frame": n, ...}
                      for the one whose pixels lie in the memory, {"damaged": n}, last {"error": ...} or {"end": ...,
                      "ends": whether that is an end or a failure}

Times "at" are `time.monotonic()`, which all processes of a machine share. Credentials come in by standard input, where
no list of processes shows them, and nothing goes out but texts of our own. Those in a pipeline of GStreamer stand in
the arguments of gst-launch-1.0, which takes them in no other way.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from ssdrt.errors import MissingExtra, SourceError, import_extra
from ssdrt.sources import rtp
from ssdrt.sources.base import Pixels, check_size
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.failures import Failure, classify
from ssdrt.sources.scene import draw_scene
from ssdrt.sources.video import to_rgb

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet

MAX_LATENCY_PIXELS = 1920 * 1088
"""Up to this size frames are decoded one after the other: threads a frame each would hold back as many frames."""

PARTING = 1.0
"""Seconds that a camera gets to hear a polite goodbye before the process kills itself."""

LAST = 5.0
"""Seconds for which the last frame of a stream that has an end waits to be asked for."""

LOGGED = 20
"""Lines of FFmpeg's log that are kept."""

FAILURES = (Failure, MissingExtra, SourceError, MemoryError)
"""What ends a stream with a sentence."""


class Channel:
    """The way to the parent, and the newest frame."""

    def __init__(self, memory: int) -> None:
        self._memory, self._size = memory, 0
        self._map: mmap.mmap | None = None
        self._out = threading.Lock()
        self._news = threading.Condition()
        self._newest: tuple[int, float, float | None, Any] | None = None
        self._wanted = 0
        self._serving = False
        self._count = 0
        self.closed = threading.Event()

    def say(self, **message: Any) -> None:
        """One line to the parent; when it has gone, so does this process."""
        data = json.dumps(message).encode() + b"\n"
        with self._out:
            try:
                while data:
                    data = data[os.write(1, data) :]
            except OSError:
                _die()

    def put(self, stamp: float | None, picture: Any) -> None:
        """A frame came: `picture` is its pixels, or what `pixels` makes of it."""
        at = time.monotonic()
        with self._news:
            self._count += 1
            self._newest = self._count, at, stamp, picture
            self._news.notify_all()
        self.say(tick=self._count, at=at)

    def listen(self) -> None:
        """Count what the parent asks for, until it asks for nothing more."""
        while asked := os.read(0, 64):
            with self._news:
                self._wanted += len(asked)
                self._news.notify_all()
        self.closed.set()
        time.sleep(PARTING)
        _die()

    def serve(self) -> None:
        """Give the newest frame that was not given yet, each time that one is wanted."""
        while True:
            with self._news:
                while not (self._wanted and self._newest):
                    self._news.wait()
                number, at, stamp, picture = self._newest
                self._newest = None
                self._wanted, self._serving = 0, True
            try:
                pixels = picture() if callable(picture) else picture
                self._write(pixels)
            except FAILURES as error:
                self.fail(error)
                os._exit(1)
            height, width = pixels.shape[:2]
            self.say(frame=number, at=at, stamp=stamp, width=width, height=height)
            with self._news:
                self._serving = False
                self._news.notify_all()

    def fail(self, error: Exception) -> None:
        """The last word: why nothing more will come."""
        match error:
            case Failure():
                self.say(error=error.kind, text=str(error))
            case MemoryError():
                self.say(error="other", text="there is not enough memory for its pictures")
            case _:
                self.say(error="unusable", text=str(error))

    def give_last(self) -> None:
        """Wait until the last frame was asked for and given, or nobody asks for `LAST` seconds."""
        with self._news:
            self._news.wait_for(lambda: not (self._newest or self._serving), LAST)

    def _write(self, pixels: Pixels) -> None:
        if pixels.nbytes > self._size:
            os.ftruncate(self._memory, pixels.nbytes)
            self._map, self._size = mmap.mmap(self._memory, pixels.nbytes), pixels.nbytes
        assert self._map is not None
        self._map[: pixels.nbytes] = pixels.data.cast("B") if pixels.flags.c_contiguous else pixels.tobytes()


def main() -> None:
    """Read one stream until it ends, fails, or the parent wants nothing more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told by the same Ctrl-C, and says when to end
    request = json.loads(sys.argv[1]) | json.loads(_first_line())
    channel = Channel(request["memory"])
    for work in (channel.listen, channel.serve):
        threading.Thread(target=work, daemon=True).start()
    readers = {"av": read_av, "gstreamer": read_gstreamer, "scene": read_scene}
    try:
        readers[request["reader"]](channel, request)
        if request["ends"]:
            channel.give_last()
        channel.say(end="the stream has ended", ends=request["ends"])
    except FAILURES as error:
        channel.fail(error)
    os._exit(0)  # threads of libraries may still be at it


def read_scene(channel: Channel, request: dict[str, Any]) -> None:
    """Draw frame after frame, on time."""
    (width, height), rate = request["size"], request["rate"]
    check_size(width, height, request["max_pixels"], request["name"])
    channel.say(opened="scene", rate=rate)
    begin = time.monotonic()
    for index in range(request["frames"] or sys.maxsize):
        if channel.closed.wait(max(begin + index / rate - time.monotonic(), 0)):
            return
        channel.put(index / rate, draw_scene(index, width, height))


def read_av(channel: Channel, request: dict[str, Any], file: Any = None) -> None:
    """Everything that FFmpeg reads.

    Raises
    ------
    Failure: it cannot be opened, or no more be read.
    """
    av = import_extra("av", "video", "reading a stream")
    av.logging.set_level(av.logging.ERROR)
    sockets = rtp.open_sockets()
    with av.logging.Capture(local=False) as log:
        try:
            with av.open(
                file or request["url"],
                format=request["format"],
                options=dict(request["options"]),
                metadata_errors="replace",
            ) as container:
                _decode(channel, container, request, log, rtp.open_sockets() - sockets)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise classify(error, " ".join(text for _, _, text in log)) from None


def _decode(
    channel: Channel, container: InputContainer, request: dict[str, Any], log: list[Any], sockets: set[int]
) -> None:
    """Decode until the end.

    Parameters
    ----------
    log: what FFmpeg has to say, of which the words since the last good frame are kept.
    sockets: that it opened.
    """
    av = import_extra("av", "video", "reading a stream")
    if not container.streams.video:
        raise Failure("codec", "there is no video in it")
    stream = container.streams.video[0]
    context = stream.codec_context
    stream.thread_type = "SLICE" if context.width * context.height <= MAX_LATENCY_PIXELS else "AUTO"
    context.flags |= av.codec.context.Flags.low_delay
    rate = stream.average_rate or stream.guessed_rate
    codec = context.codec.canonical_name  # that of the decoder may be another, as libdav1d
    channel.say(opened=codec, rate=float(rate) if rate else None)
    if request["ends"] is None:
        request["ends"] = bool(container.duration)
    # HLS comes in segments, a file as fast as it can be read: their frames are due when their time stamps say so.
    paced, begin = container.format.name == "hls" or (request["ends"] and container.duration), None
    damaged = 0
    packets: Iterable[Packet[Any]] = container.demux(stream)
    if container.format.name == "rtsp":
        packets = rtp.frames_of(packets, codec)
        if request["options"]["rtsp_transport"] == "tcp" and request["url"].startswith("rtsp:"):  # that of rtsps is TLS
            rtp.mark_ends(sockets, codec)
    for packet in packets:
        del log[:-LOGGED]
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            frames, damaged = [], damaged + 1
            channel.say(damaged=damaged)
        for frame in frames:
            if frame.is_corrupt:  # the decoder filled in what was missing
                damaged += 1
                channel.say(damaged=damaged)
                continue
            if paced and frame.time is not None:
                begin = time.monotonic() - frame.time if begin is None else begin
                channel.closed.wait(max(begin + frame.time - time.monotonic(), 0))
            log.clear()
            channel.put(frame.time, lambda frame=frame: _pixels(frame, request))
        if channel.closed.is_set():
            return


def _pixels(frame: VideoFrame, request: dict[str, Any]) -> Pixels:
    av = import_extra("av", "video", "reading a stream")
    try:
        return to_rgb(frame, request["name"], request["max_pixels"])
    except av.FFmpegError as error:
        raise classify(error, "") from None


def read_gstreamer(channel: Channel, request: dict[str, Any]) -> None:
    """A pipeline of the system's GStreamer, whose pictures come through a pipe as YUV4MPEG2.

    Raises
    ------
    Failure: no GStreamer or none of the elements, or the pipeline fails.
    """
    launch = shutil.which("gst-launch-1.0")
    if launch is None:
        raise Failure("unusable", "GStreamer is not installed: there is no gst-launch-1.0 (Debian: gstreamer1.0-tools)")
    pipeline = next(filter(_element_exists, request["pipelines"]), None)
    if pipeline is None:
        wanted = " or ".join(text.split()[0] for text in request["pipelines"])
        raise Failure("unusable", f"GStreamer has no element {wanted}")
    inlet, outlet = os.pipe()
    words = [*_words(pipeline), "!", "videoconvert", "!", "video/x-raw,format=I420", "!", "y4menc", "!", "fdsink",
             f"fd={outlet}"]  # fmt: skip
    with tempfile.TemporaryFile() as log, subprocess.Popen(  # a pipe that nobody reads would stop it when full
        [launch, "-q", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=[outlet],
    ) as player:  # fmt: skip
        os.close(outlet)
        try:
            with os.fdopen(inlet, "rb", buffering=0) as file:
                read_av(channel, request | {"format": "yuv4mpegpipe", "options": {"probesize": "32"}}, file)
        except Failure:
            if player.wait() == 0:
                raise
        finally:
            player.terminate()
        if player.wait() not in (0, -signal.SIGTERM):
            log.seek(0)
            raise Failure("other", _complaint(log.read(1 << 20)))


def _words(pipeline: str) -> list[str]:
    import shlex

    try:
        return shlex.split(pipeline)
    except ValueError as error:
        raise Failure("unusable", f"the pipeline is not understood: {error}") from None


def _element_exists(pipeline: str) -> bool:
    inspect = shutil.which("gst-inspect-1.0")
    return inspect is None or subprocess.run([inspect, "--exists", pipeline.split()[0]], check=False).returncode == 0


def _complaint(stderr: bytes) -> str:
    """The first line of an error, as gst-launch-1.0 prints it."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    line = next((line for line in lines if "ERROR" in line or "erroneous" in line), "")
    said = hide_credentials(line.rpartition("ERROR: ")[2])[:200].strip()
    return f"the pipeline failed: {said or 'GStreamer does not say why'}"


def _first_line() -> bytes:
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line) or b"{}"


def _die() -> NoReturn:
    """End this process, and what it started: it leads a group of its own."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)
