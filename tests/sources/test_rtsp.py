"""RTSP from a real server, through a network that fails in every way: list C of what cameras do."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import count
from threading import Event

import numpy as np
import pytest

from bad_network import BadNetwork
from rtsp import ENCODERS, QUICK, Watched, rtsp_server, scene, server_python
from ssdrt.sources.live import LiveSource, Patience
from ssdrt.sources.scene import draw_scene, read_index
from ssdrt.sources.stream import parse_stream

av = pytest.importorskip("av", reason="the extra `video` is not installed")
from packets import HEAD, PAY, SECOND, av1_in_rtp  # noqa: E402

PYTHON, WHY = server_python()
pytestmark = pytest.mark.skipif(PYTHON is None, reason=WHY or "")


@pytest.fixture(scope="module")
def server():
    """The port of a server of every codec."""
    more = {"large": scene("h264", 640, 480), "slow": scene("h264", rate=2)}
    with rtsp_server(**{codec: scene(codec) for codec in ("h264", "h265", "mjpeg")}, **more) as port:
        yield port


@pytest.fixture
def network(server):
    relay = BadNetwork(server)
    yield relay
    relay.close()


def address(network, path="h264"):
    return f"rtsp://127.0.0.1:{network.port}/{path}"


@pytest.mark.parametrize(
    ("scheme", "path"), [("rtsp", "h264"), ("rtspu", "h264"), ("rtsp", "h265"), ("rtsp", "mjpeg"), ("rtspu", "mjpeg")]
)
def test_every_codec_and_transport(server, scheme, path):
    with Watched(f"{scheme}://127.0.0.1:{server}/{path}") as watched:
        watched.until_frames(10)
        indices, times, arrived, *_ = zip(*watched.frames, strict=True)
    assert watched.shapes == {(240, 320, 3)}
    assert all(np.diff(indices) > 0)
    assert all(np.diff(times) > 0)
    assert all(np.diff(arrived) > 0)
    assert [status.state for _, status in watched.states] == ["OFFLINE", "ONLINE", "OFFLINE"]


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_a_frame_is_there_before_the_next_one_is_drawn(codec, tmp_path):
    fifo = tmp_path / "frames"
    os.mkfifo(fifo)
    caps = "video/x-raw,format=RGB,width=320,height=240,framerate=30/1"
    source = f"appsrc name=frames is-live=true format=time blocksize={320 * 240 * 3} caps={caps}"
    pipeline = f"{source} ! videoconvert ! video/x-raw,format=I420 ! {ENCODERS[codec]}"
    drawn, begun = count(), Event()

    def film(file):
        while (index := next(drawn)) < 30 or not begun.is_set():  # the server leaves out some of the first
            file.write(draw_scene(index, 320, 240).tobytes())
            begun.wait(1 / 30)

    with rtsp_server(frames=str(fifo), shared=pipeline) as port, ThreadPoolExecutor(1) as pool:
        source = LiveSource(parse_stream(f"rtsp://127.0.0.1:{port}/shared"), patience=Patience(stale=60, silent=60))
        source.start()
        with closing(source), pool.submit(open, fifo, "wb", 0).result() as file:
            filming = pool.submit(film, file)
            first = source.take(20)
            begun.set()
            filming.result()
            assert first is not None
            for index in range(last := next(drawn), last + 10):
                file.write(draw_scene(index, 320, 240).tobytes())
                while (arrival := source.take(10)) is not None and read_index(arrival.frame.image) < index:
                    pass
                assert arrival is not None  # it waits for the next one
                assert read_index(arrival.frame.image) == index


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this FFmpeg does not encode AV1")
def test_a_frame_of_av1_is_there_before_the_next_one(tmp_path):
    os.mkfifo(tmp_path / "shared")
    sent = enumerate(av1_in_rtp(draw_scene(index, 320, 240) for index in count()))

    def send(file):
        index, packet = next(sent)
        file.write(HEAD.pack(len(packet), index * SECOND // 30, index * SECOND // 30) + packet)
        return index

    with rtsp_server(packets=tmp_path, shared=PAY["av1"]) as port, ThreadPoolExecutor(1) as pool:
        source = LiveSource(parse_stream(f"rtsp://127.0.0.1:{port}/shared"), patience=Patience(stale=60, silent=60))
        source.start()
        with closing(source), pool.submit(open, tmp_path / "shared", "wb", 0).result() as file:
            while source.take(1 / 30) is None:  # the server leaves out some of the first
                send(file)
            for _ in range(10):
                index = send(file)
                while (arrival := source.take(10)) is not None and read_index(arrival.frame.image) < index:
                    pass
                assert arrival is not None  # it waits for the next one
                assert read_index(arrival.frame.image) == index


def test_a_camera_that_stops_sending_is_stale_then_opened_again(network):
    with Watched(address(network)) as watched:
        watched.until_frames()
        network.freeze()
        watched.until_state("STALE", "no frame for")
        watched.until_state("OFFLINE", "next try in")
        seen = len(watched.frames)
        network.thaw()
        watched.until_frames()
        assert watched.source.status.reconnects >= 1
    assert watched.frames[seen][1] > watched.frames[seen - 1][1]  # time goes on


def test_a_short_freeze_needs_no_reconnect_and_its_burst_is_dropped(network):
    patience = Patience(stale=0.3, silent=20.0)
    with Watched(address(network), patience) as watched:
        watched.until_frames()
        network.freeze()
        watched.until_state("STALE")
        network.thaw()
        watched.until_state("ONLINE")
        watched.until_frames(20)
        assert watched.source.status.reconnects == 0
        assert network.connections == 1
    ages = [taken - arrived for _, _, arrived, taken, _ in watched.frames]
    assert max(ages) < 1.0


@pytest.mark.parametrize("reset", [False, True])
def test_a_closed_connection_is_opened_again(network, reset):
    with Watched(address(network)) as watched:
        watched.until_frames()
        network.cut(reset)
        watched.until_state("OFFLINE", "next try in")
        watched.until_frames()
        assert watched.source.status.reconnects == 1


def test_a_refused_connection_is_tried_again_with_pauses_that_grow(network):
    with Watched(address(network)) as watched:
        watched.until_frames()
        network.refuse()
        watched.until_state("OFFLINE", "refused")
        watched.until(lambda it: sum("refused" in status.reason for _, status in it.states) >= 3)
        network.accept()
        watched.until_frames()


def test_a_camera_that_accepts_and_says_nothing(network):
    network.be_silent()
    with Watched(address(network), Patience(opening=1.0, first_pause=0.1)) as watched:
        watched.until_state("OFFLINE", "no frame for 1")
        watched.until(lambda _: network.connections >= 2)
        network.be_silent(False)
        watched.until_frames(seconds=30)


def test_half_open_from_the_first_byte(network):
    network.freeze()
    with Watched(address(network), Patience(opening=1.0, first_pause=0.1)) as watched:
        watched.until_state("OFFLINE", "no frame for 1")
        network.thaw()
        watched.until_frames(seconds=30)


def test_a_wrong_password_is_not_hammered_and_never_shown():
    with rtsp_server("ann:s3cret", h264=scene("h264")) as port:
        relay = BadNetwork(port)
        with Watched(f"rtsp://ann:wr0ng@127.0.0.1:{relay.port}/h264") as watched:
            watched.until_state("OFFLINE", "password")
            first = relay.connections
            watched.until(lambda it: it.source.status.reconnects == 1)
            waited = watched.states[-1][0] - watched.states[-2][0]
        assert waited >= QUICK.refused
        assert first <= 2
        with Watched(f"rtsp://ann:s3cret@127.0.0.1:{relay.port}/h264") as right:
            right.until_frames()
        relay.close()
    for text in map(repr, (watched.states, right.states, watched.source.name, right.source.name)):
        assert "wr0ng" not in text
        assert "s3cret" not in text
        assert "ann" not in text
    assert watched.source.name == f"rtsp://127.0.0.1:{relay.port}/h264"


def test_a_path_that_is_not_there(network):
    with Watched(address(network, "nothing")) as watched:
        watched.until_state("OFFLINE", "no such stream")


def test_a_host_that_is_not_there():
    with Watched("rtsp://camera.invalid/h264") as watched:
        watched.until_state("OFFLINE", "host name is not known")


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_lost_bytes_cost_frames_and_nothing_else(network, share):
    with Watched(address(network), replace(QUICK, opening=4.0)) as watched:
        watched.until_frames()
        network.lose(share)
        watched.until(lambda _: network.lost > 1_000)
        network.lose(0)
        watched.until_frames()


def test_jitter_delays_frames_and_no_more(network):
    network.delay(0.005, 0.15)
    with Watched(address(network), Patience(stale=2.0)) as watched:
        watched.until_frames(40, 40)
        assert watched.source.status.reconnects == 0


def test_another_codec_and_size_after_a_reconnect(network, server):
    with rtsp_server(h264=scene("mjpeg", 160, 120)) as other, Watched(address(network)) as watched:
        watched.until_frames()
        network.refuse()
        watched.until_state("OFFLINE", "next try in")
        network.accept(other)
        watched.until_frames()
        network.refuse()
        watched.until_state("OFFLINE", "next try in")
        network.accept(server)
        watched.until_frames()
    assert watched.shapes == {(240, 320, 3), (120, 160, 3)}


def test_a_slow_stream_is_given_time(server):
    with Watched(f"rtsp://127.0.0.1:{server}/slow", Patience(stale=0.2, silent=0.3)) as watched:
        watched.until_frames(6)
        assert watched.source.status.reconnects == 0
    assert not [status for _, status in watched.states if status.state == "STALE"]


def test_the_others_go_on_when_one_camera_fails(network, server):
    with Watched(address(network)) as bad, Watched(f"rtsp://127.0.0.1:{server}/h264") as good:
        bad.until_frames()
        good.until_frames()
        network.freeze()
        first = len(good.frames)
        bad.until_state("OFFLINE", "next try in")
        frames = good.frames[first:]
    span = frames[-1][2] - frames[0][2]
    assert (frames[-1][0] - frames[0][0]) / span >= 0.95 * 30
