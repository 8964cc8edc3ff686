"""The longer ones of list C, and changes in mid-stream: what test_rtsp.py has no room for."""

import time

import numpy as np
import pytest

from bad_network import BadNetwork
from rtsp import QUICK, Watched, rtsp_server, scene, server_python
from ssdrt.sources.live import Patience

av = pytest.importorskip("av", reason="the extra `video` is not installed")
from packets import PAY, encoded, write_packets  # noqa: E402

PYTHON, WHY = server_python()
pytestmark = pytest.mark.skipif(PYTHON is None, reason=WHY or "")


@pytest.fixture
def network():
    with rtsp_server(h264=scene("h264", rate=10)) as port:
        relay = BadNetwork(port)
        yield relay
        relay.close()


def test_frozen_for_25_seconds_with_the_patience_that_users_have(network):
    """Nothing is scaled: STALE after 1 s, another process after 10 s, whose first frame may take 15 s."""
    with Watched(f"rtsp://127.0.0.1:{network.port}/h264", Patience()) as watched:
        watched.until_frames()
        network.freeze()
        begin = time.monotonic()
        watched.until_state("STALE")
        seen = len(watched.frames)
        watched.until_state("OFFLINE", "next try in 1 s")
        watched.until_state("OFFLINE", "opening")
        watched.until_state("OFFLINE", "next try in")
        frozen = time.monotonic() - begin
        assert len(watched.frames) == seen  # none is made up
        network.thaw()
        watched.until_frames()
    assert frozen > 25
    assert [status.state for _, status in watched.states][:3] == ["OFFLINE", "ONLINE", "STALE"]
    assert watched.frames[seen][1] - watched.frames[seen - 1][1] > 25  # time goes on meanwhile


def test_jitter_of_seconds_needs_no_reconnect(network):
    network.delay(0.05, 2.0)
    with Watched(f"rtsp://127.0.0.1:{network.port}/h264", Patience()) as watched:
        watched.until_frames(20, 60)
        assert watched.source.status.reconnects == 0
    assert all(np.diff([frame[1] for frame in watched.frames]) > 0)


def test_another_rate_after_a_reconnect(network):
    address = f"rtsp://127.0.0.1:{network.port}/h264"
    with rtsp_server(h264=scene("h264", rate=30)) as other, Watched(address) as watched:
        watched.until(lambda it: 5 < it.source.status.capture_fps < 15)
        network.refuse()
        watched.until_state("OFFLINE", "next try in")
        network.accept(other)
        watched.until(lambda it: 20 < it.source.status.capture_fps < 45)


def test_another_size_in_mid_stream(tmp_path):
    """Two seconds each of 320 x 240 and of 160 x 120, in turns, in one stream."""

    def pictures(width, height):
        rng = np.random.default_rng(0)
        for index in range(40):
            image = np.repeat(np.repeat(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), 8, 0), 8, 1)
            yield av.VideoFrame.from_ndarray(image, format="rgb24"), index / 20

    parts = [list(encoded(pictures(*size), "h264")) for size in ((320, 240), (160, 120))]
    later = [(data, shown + 2, decoded + 2) for data, shown, decoded in parts[1]]
    write_packets(tmp_path / "h264", parts[0] + later)
    server = rtsp_server(packets=tmp_path, h264=PAY["h264"])
    with server as port, Watched(f"rtsp://127.0.0.1:{port}/h264", QUICK) as watched:
        watched.until(lambda it: len(it.shapes) == 2)
        watched.until_frames(60, 30)
        assert watched.source.status.reconnects == 0
    assert watched.shapes == {(240, 320, 3), (120, 160, 3)}
