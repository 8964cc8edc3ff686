"""What a user types for a live source, and what is shown of it."""

import pytest

from ssdrt.errors import SourceError
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.live import Patience
from ssdrt.sources.stream import parse_stream


@pytest.mark.parametrize(
    ("text", "url", "form", "options"),
    [
        ("camera:1", "/dev/video1", "v4l2", {}),
        ("/dev/video2", "/dev/video2", "v4l2", {}),
        ("camera:0?size=1280x720&rate=30&format=mjpeg", "/dev/video0", "v4l2",
         {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"}),
        ("screen::7.0?rate=5", ":7.0", "x11grab", {"framerate": "5"}),
    ],
)  # fmt: skip
def test_devices(text, url, form, options, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    stream = parse_stream(text)
    assert (stream.url, stream.format, stream.options) == (url, form, options)


@pytest.mark.parametrize(
    ("scheme", "transport"), [("rtsp", "tcp"), ("rtspt", "tcp"), ("rtspu", "udp"), ("rtsps", "tcp")]
)
def test_transports_of_rtsp(scheme, transport):
    stream = parse_stream(f"{scheme}://host:8554/a?b=c", latency=0.2)
    assert stream.options["rtsp_transport"] == transport
    assert stream.options["max_delay"] == "200000"
    assert stream.url == f"{'rtsps' if scheme == 'rtsps' else 'rtsp'}://host:8554/a?b=c"


def test_pipelines():
    stream = parse_stream(
        "gst:v4l2src ! video/x-raw,width={width},height={height} ! videoconvert ! appsink drop=1", (800, 600)
    )
    assert stream.pipelines == ("v4l2src ! video/x-raw,width=800,height=600 ! videoconvert",)
    jetson, raspberry = parse_stream("csi:0?size=640x480&rate=29.97").pipelines
    assert jetson.startswith("nvarguscamerasrc sensor-id=0 ! ")
    assert "width=640,height=480,framerate=2997/100" in raspberry
    (second,) = parse_stream("csi:1").pipelines
    assert second.startswith("nvarguscamerasrc sensor-id=1 ! ")
    assert "framerate=30/1" in second


@pytest.mark.parametrize("text", ["photo.jpg", "-", "-?size=3x4", "folder", "C:/a.png", "http://host/a.jpg", "a:b.png"])
def test_what_is_no_stream(text):
    assert parse_stream(text) is None


@pytest.mark.parametrize(
    "text",
    ["camera:x", "camera:0?size=big", "test:?colour=red", "test:?rate=0.00", "http://[x/a", "test:abc", "gst:",
     "gst:! appsink", "csi:-1",
     "camera:0?frames=4", "screen:?format=x", "test:?format=mjpeg", "csi:0?frames=1", "rtsp://", "rtsp://me:pw@/a",
     "rtsp://:554/a"],
)  # fmt: skip
def test_what_is_a_stream_but_wrong(text):
    with pytest.raises(SourceError):
        parse_stream(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://bob:secret@host/a", "rtsp://host/a"),
        ("rtsp://bob:se/c@ret@host:554/a", "rtsp://host:554/a"),
        ("rtsp://host/a?user=bob&password=secret&channel=1", "rtsp://host/a?user=***&password=***&channel=1"),
        ("rtsp://host/user=bob_password=secret_channel=1", "rtsp://host/user=***_password=***_channel=1"),
        ("http://host/stream?TOKEN=secret", "http://host/stream?TOKEN=***"),
        ("gst:rtspsrc location=rtsp://host/a user-id=bob user-pw=secret ! decodebin",
         "gst:rtspsrc location=rtsp://host/a user-id=*** user-pw=*** ! decodebin"),
        ("rtsp://host/plain", "rtsp://host/plain"),
        ("rtsp://bob:se#cret@host/x", "rtsp://host/x"),
        ("rtsp://bob:sec?ret@host/x", "rtsp://host/x"),
        ("rtsp://bob:my secret@host/x", "rtsp://host/x"),
        ("rtsp://host/x?token=ab_secret/ef&a=b", "rtsp://host/x?token=***&a=b"),
        ("rtsp://host/x?token=ab/secret==", "rtsp://host/x?token=***"),
        ("rtsp://host/x?password=my_secret", "rtsp://host/x?password=***"),
        ('gst:rtspsrc location=rtsp://host/a user-pw="my secret" ! decodebin',
         "gst:rtspsrc location=rtsp://host/a user-pw=*** ! decodebin"),
        ("http://host/pics@2x/f", "http://host/pics@2x/f"),
        ("http://host:8080/@somebody/f", "http://host:8080/@somebody/f"),
        ("http://bob:secret@host:8080/@somebody/f", "http://somebody/f"),
    ],
)  # fmt: skip
def test_credentials_are_not_shown(text, shown):
    hidden = hide_credentials(text)
    assert "secret" not in hidden
    assert "bob" not in hidden
    assert hidden == shown


def test_pauses_double_up_to_half_a_minute_and_a_wrong_password_waits_that_long():
    patience = Patience()
    assert [patience.pause(failures, "closed", 0.5) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert patience.pause(10_000, "closed", 1.0) == pytest.approx(36)
    assert patience.pause(1, "closed", 0.0) == pytest.approx(0.8)
    assert patience.pause(1, "authentication", 0.5) == 30


def test_who_saw_too_little_waits_longer_the_next_time():
    patience = Patience()
    for _ in range(10):
        patience = patience.after(0)
    assert patience.opening == 120
    assert patience.after(1).silent == 20
