"""The command lines of tensorrt_demos, run: each gives what it gave there, on a real source."""

import json
import shutil

import pytest

GRAPH = "frozen_inference_graph.pb"
REFERENCE = ("--engine", "reference", "-q", "--json", "-")


def records(out):
    return [record for line in out.splitlines() if "detections" in (record := json.loads(line))]


def test_image_resized(ssdrt):
    size = ("--do_resize", "--width", "200", "--height", "100")
    code, out, err = ssdrt("detect", "--image", "photo.png", "--model", GRAPH, *size, *REFERENCE)
    (record,) = records(out)
    assert (code, err, record["width"], record["height"]) == (0, "", 200, 100)


def test_video(ssdrt, tmp_path):
    pytest.importorskip("av", reason="videos need the extra `video`")
    clip = tmp_path / "clip.mp4"
    assert ssdrt("detect", GRAPH, "test:?size=64x48&rate=30&frames=20", "-o", clip, "--engine", "null", "-q")[0] == 0
    code, out, _ = ssdrt("detect", "--video", clip, "-m", GRAPH, *REFERENCE)
    found = records(out)
    assert code == 0
    assert [record["index"] for record in found] == list(range(len(found)))
    assert {(record["width"], record["height"]) for record in found} == {(64, 48)}


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="there is no GStreamer (gst-launch-1.0)")
def test_pipeline_with_its_placeholders_and_sink(ssdrt):
    pytest.importorskip("av", reason="videos need the extra `video`")
    pipeline = "videotestsrc num-buffers=5 ! video/x-raw,width={width},height={height} ! videoconvert ! appsink"
    code, out, _ = ssdrt("detect", "--gstr", pipeline, "--width", "96", "--height", "64", "-m", GRAPH, *REFERENCE)
    assert code == 0
    assert {(record["width"], record["height"]) for record in records(out)} == {(96, 64)}


def test_a_board_s_camera_without_a_board(ssdrt):
    code, _, err = ssdrt("detect", "--onboard", "0", "-m", GRAPH, *REFERENCE)
    assert (code, err.count("\n")) == (1, 1)
    assert "GStreamer" in err


def test_without_a_source(ssdrt):
    code, _, err = ssdrt("detect", "--model", GRAPH)
    assert (code, err.count("\n")) == (2, 1)
    assert "required: INPUT" in err
