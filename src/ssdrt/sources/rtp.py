"""Frames of RTSP over TCP as soon as they are whole: FFmpeg's reader alone gives one only when the next begins.

RTP marks the last packet of a frame, but FFmpeg does not pass that on. So the bytes from the camera come through here,
where an access unit delimiter is put behind each marked packet, and what FFmpeg makes of the packets is joined up to
it. Where a camera sets no marks, a frame ends when the time stamp changes, which is as late as it was.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ssdrt.errors import import_extra

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

DELIMITERS = {"h264": b"\x09\xf0", "hevc": b"\x46\x01\x50"}
"""Codec -> a unit that says no more than that a frame begins; what reads no marks takes it so."""

WHOLE = ("mjpeg", "vp8", "vp9", "av1")
"""Codecs of which FFmpeg's RTP reader gives whole frames."""

DYNAMIC = 96
"""Types of RTP packets from here on are what the session says; those of H.264 and H.265 are. RTCP's stay below."""

LENGTH = re.compile(rb"^content-length:\s*(\d{1,6})", re.IGNORECASE | re.MULTILINE)


def open_sockets() -> set[int]:
    """Descriptors of this process that are sockets."""
    return {descriptor for descriptor in map(int, os.listdir("/dev/fd")) if _is_socket(descriptor)}


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:  # that of the listing itself
        return False


def mark_ends(sockets: set[int], codec: str) -> None:
    """Put delimiters into what comes through the one socket that FFmpeg reads: from now on it reads a relay."""
    if len(sockets) != 1 or codec not in DELIMITERS:
        return
    (descriptor,) = sockets
    camera = socket.socket(fileno=os.dup(descriptor))
    camera.setblocking(True)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # as FFmpeg's are
    os.dup2(theirs.fileno(), descriptor)
    theirs.close()
    for work in (lambda: _relay(camera, ours, DELIMITERS[codec]), lambda: _relay(ours, camera, None)):
        threading.Thread(target=work, daemon=True).start()


def frames_of(packets: Iterable[Packet[VideoStream]], codec: str) -> Iterator[Packet[Any]]:
    """Packets of a whole frame each, from the pieces that FFmpeg's RTP reader gives when it does not parse them."""
    if codec in WHOLE:
        yield from packets
        return
    av = import_extra("av", "video", "reading a stream")
    end = b"\0\0\0\1" + DELIMITERS.get(codec, b"")
    pieces = list[bytes]()
    pts: int | None = None
    time_base: Any = None

    def whole() -> Packet[Any]:
        packet: Packet[Any] = av.Packet(b"".join(pieces))
        packet.pts, packet.time_base = pts, time_base
        pieces.clear()
        return packet

    for packet in packets:
        data = bytes(packet)
        if pieces and (data == end or packet.pts != pts):
            yield whole()
        if data and data != end:
            pts, time_base = packet.pts, packet.time_base
            pieces.append(data)
    if pieces:
        yield whole()


def with_delimiters(data: bytearray, delimiter: bytes) -> bytes:
    """What is whole at the front of `data`, a connection's bytes, with a delimiter behind each end; it is cut off."""
    whole = bytearray()
    while data:
        if data[0] == ord("$"):  # a packet: channel, length, RTP or RTCP
            size = 4 + int.from_bytes(data[2:4], "big")
            if len(data) < max(size, 4):
                break
            whole += data[:size]
            if size >= 16 and data[4] >> 6 == 2 and data[5] >= 0x80 + DYNAMIC:
                # The same number again: two packets of one number are taken as they come, and none seems to be lost.
                whole += b"$%c%c%c\x80" % (data[1], 0, 12 + len(delimiter)) + data[5:16] + delimiter
        elif data.startswith(b"RTSP/"[: len(data)]):  # an answer
            head = data.find(b"\r\n\r\n")
            if head < 0 and len(data) < 1 << 16:
                break
            body = LENGTH.search(data, 0, max(head, 0))
            size = head + 4 + (int(body[1]) if body else 0)
            if len(data) < size:
                break
            whole += data[:size]
        else:  # something is lost: FFmpeg looks for the next packet in the same way
            size = data.find(b"$") if b"$" in data else len(data)
            whole += data[:size]
        del data[:size]
    return bytes(whole)


def _relay(source: socket.socket, target: socket.socket, delimiter: bytes | None) -> None:
    """Pass on all that comes, to its end, which is passed on, too."""
    waiting = bytearray()
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if delimiter is not None:
                waiting += data
                data = with_delimiters(waiting, delimiter)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
