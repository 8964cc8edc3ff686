"""Delimiters behind the last packets of frames, in the bytes of an RTSP connection."""

import pytest

from ssdrt.sources.rtp import DELIMITERS, with_delimiters

AUD = DELIMITERS["h264"]


def packet(payload, kind=96, last=False, channel=0):
    rtp = bytes([0x80, kind | 0x80 * last]) + b"\0\7" + b"\0\0\0\5" + b"ssrc" + payload
    return b"$" + bytes([channel]) + len(rtp).to_bytes(2, "big") + rtp


ANSWER = b"RTSP/1.0 200 OK\r\nSession: a$b\r\nContent-Length: 3\r\n\r\n$$$"
RTCP = b"$\1\0\14" + bytes([0x80, 200]) + bytes(10)
SENT = [
    packet(b"first"),
    ANSWER,
    packet(b"last", last=True),
    RTCP,
    packet(b"sound", kind=8, last=True),
    packet(b"next"),
]
GIVEN = [*SENT[:3], packet(AUD, last=True), *SENT[3:]]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_delimiter_follows_each_marked_packet_however_the_bytes_arrive(size):
    sent, waiting, given = b"".join(SENT), bytearray(), b""
    for begin in range(0, len(sent), size):
        waiting += sent[begin : begin + size]
        given += with_delimiters(waiting, AUD)
    assert given == b"".join(GIVEN)
    assert not waiting


def test_after_lost_bytes_the_next_packet_is_found():
    waiting = bytearray(b"st of a packet" + b"".join(SENT))
    assert with_delimiters(waiting, AUD) == b"st of a packet" + b"".join(GIVEN)
