"""`Detector`: the API people import, on the demo graph and picture."""

import io
import os
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

import ssdrt
import ssdrt.detector
from build import demo_file
from ssdrt.demo import demo_picture
from ssdrt.detector import MAX_SIZES, Detector, in_order
from ssdrt.engines import reference
from ssdrt.engines.base import Submitted
from ssdrt.engines.lanes import Started
from ssdrt.engines.null import NullEngine
from ssdrt.engines.reference import ReferenceEngine
from ssdrt.errors import EngineError, LabelError, SourceError, SsdrtError
from ssdrt.model import LabelMap
from ssdrt.postprocess import decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network
from ssdrt.sources import open_source
from ssdrt.sources.photo import decode_photo
from surgery import keep_aspect_ratio

NAMES = LabelMap({1: "red", 2: "green", 3: "blue"})


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSDRT_HOME", str(folder / "home"))
        with Detector.open(demo_file(folder), engine="reference", labels=NAMES) as opened:
            yield opened


def same(a, b):
    return np.array_equal(a.boxes_xyxy, b.boxes_xyxy) and np.array_equal(a.scores, b.scores)


def test_what_is_found_comes_best_first_with_names(detector):
    found = detector.detect(demo_picture())
    assert len(found) == 6
    assert set(found.labels) == {"red", "green", "blue"}
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert len(found[found.scores > 0.9]) == (found.scores > 0.9).sum()


def test_many_pictures_give_what_each_alone_gives_in_order(detector):
    pictures = [np.roll(demo_picture(), 40 * i, axis=1) for i in range(7)]
    alone = [detector.detect(p) for p in pictures]
    assert all(map(same, detector.detect_many(iter(pictures)), alone))


def test_a_batch_is_one_call_of_the_engine_and_gives_what_each_picture_alone_gives(detector, monkeypatch):
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((60, 80), (48, 48), (90, 30))]
    alone = [detector.detect(picture, score_threshold=0.01) for picture in pictures]
    detector.detect_batch(pictures)
    batches, engine = [], list(detector._networks.values())[-1].engine
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda pixels: batches.append(len(pixels)) or infer(pixels))
    assert all(map(same, detector.detect_batch(pictures, score_threshold=0.01), alone))
    assert batches == [3]
    assert detector.detect_batch([]) == []


def test_batches_are_submitted_and_their_results_taken_later(detector):
    jobs = [[np.roll(demo_picture(), 40 * i, axis=1), demo_picture()[: 30 + i]] for i in range(5)]
    wanted = [detector.detect_batch(job, score_threshold=0.1) for job in jobs]
    submitted = [detector.submit(job, score_threshold=0.1) for job in jobs]
    for one, right in [*zip(submitted, wanted, strict=True)][::-1]:
        assert all(map(same, one.result(), right))
        assert all(map(same, one.result(), right))
    assert detector.submit([]).result() == []
    with pytest.raises(SourceError, match="a picture is"):
        detector.submit([demo_picture(), None])


def test_an_engine_that_takes_submitted_calls_gets_them(tmp_path, monkeypatch):
    """A stand-in that computes when the result is asked for, with the reference engine."""
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    order = []

    def submit(engine, images, parameters):
        order.append(f"submit {len(images)}")

        def result():
            order.append(f"result {len(images)}")
            return [np_found(engine, engine._model, image, parameters) for image in images]

        return Submitted(Started(result).result)

    path = tmp_path / "keep_aspect_ratio.pb"
    path.write_bytes(keep_aspect_ratio(96, 160).data)
    with Detector.open(path, "reference") as detector:
        pictures = [demo_picture()[:height, :width].copy() for height, width in ((100, 150), (150, 100), (50, 75))]
        wanted = [detector.detect(picture) for picture in pictures]
        monkeypatch.setattr(ReferenceEngine, "submit", submit, raising=False)
        submitted = detector.submit(pictures)
        order.append("on")
        held = [weakref.ref(picture) for picture in pictures]
        del pictures
        assert all(one() is not None for one in held)
        assert all(map(same, submitted.result(), wanted))
        assert all(one() is None for one in held)
    assert order == ["submit 2", "submit 1", "on", "result 2", "result 1"]


def test_a_closing_detector_finishes_what_has_begun_and_the_rest_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    begun, go_on, infer = threading.Event(), threading.Event(), ReferenceEngine.infer

    def waiting(engine, pixels):
        begun.set()
        assert go_on.wait(60)
        return infer(engine, pixels)

    monkeypatch.setattr(ReferenceEngine, "infer", waiting)
    monkeypatch.setattr(ssdrt.detector, "available_processors", lambda: 1)
    detector = Detector.open(demo_file(tmp_path), "reference")
    first, second = (detector.submit([demo_picture()]) for _ in range(2))
    assert begun.wait(60)
    pool, shutdown = detector._pool, detector._pool.shutdown
    monkeypatch.setattr(pool, "shutdown", lambda: go_on.set() or shutdown())
    detector.close()
    assert len(first.result()[0]) == 6
    for call in (second.result, lambda: detector.submit([demo_picture()])):
        with pytest.raises(SsdrtError, match="this detector was closed"):
            call()


def test_pictures_that_lie_on_a_gpu_go_to_an_engine_that_takes_them(detector, monkeypatch):
    pictures = np.random.default_rng(6).integers(0, 256, (3, 60, 80, 3), dtype=np.uint8)
    with pytest.raises(EngineError, match="engine reference takes no pictures from a GPU; give `detect_batch`"):
        detector.detect_on_gpu(pictures)
    with pytest.raises(EngineError, match=r"must be \(b, height, width, 3\), not \(60, 80, 3\)"):
        detector.detect_on_gpu(pictures[0])

    def found(engine, pixels, parameters):
        return [np_found(engine, detector.model, one, parameters) for one in pixels]

    monkeypatch.setattr(ReferenceEngine, "detect_on_gpu", found, raising=False)
    for one, other in zip(
        detector.detect_on_gpu(pictures, score_threshold=0.05),
        detector.detect_batch(list(pictures), score_threshold=0.05),
        strict=True,
    ):
        assert same(one, other)
        assert (one.width, one.height) == (80, 60)


def np_found(engine, model, picture, parameters):
    encodings, scores = engine.infer(to_network(picture, model.preprocessing.resizer.value)[None])
    boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
    return non_max_suppression(boxes, scores[0], parameters, clip_window(model, *picture.shape[:2]))


def test_many_threads_share_one_detector(detector):
    expected, found = detector.detect(demo_picture()), []
    threads = [threading.Thread(target=lambda: found.append(detector.detect(demo_picture()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(same(expected, one) for one in found)


def test_thresholds_and_classes_are_run_time_arguments(detector):
    picture = demo_picture()
    everything = detector.detect(picture)
    assert set(detector.detect(picture, classes=["red", 3]).labels) == {"red", "blue"}
    assert len(detector.detect(picture, max_total=2)) == 2
    assert len(detector.detect(picture, max_per_class=1)) == 3
    strict = detector.detect(picture, score_threshold={"red": 1.0})
    assert set(strict.labels) == {"green", "blue"}
    assert len(strict) == (everything.labels != "red").sum()


def test_grey_alpha_bgr_and_16_bit_pictures(detector):
    picture = demo_picture()
    expected = detector.detect(picture)
    alpha = np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)])
    assert same(detector.detect(alpha), expected)
    assert same(detector.detect(picture.astype(np.uint16) << 8), expected)
    assert same(detector.detect(np.ascontiguousarray(picture[:, :, ::-1])[:, :, ::-1]), expected)
    assert len(detector.detect(picture[:, :, 0])) >= 0


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3)), None]
)
def test_what_is_no_picture_is_refused(detector, wrong):
    with pytest.raises(SourceError, match="a picture is"):
        detector.detect(wrong)


@pytest.mark.parametrize("wrong", ["cat", 0, 4, "class 9", -1])
def test_a_class_that_is_not_there_is_named(detector, wrong):
    with pytest.raises(LabelError, match=f"no class {wrong!r}; it has red, green, blue"):
        detector.detect(demo_picture(), classes=[wrong])


def test_classes_are_named_by_label_by_id_or_as_they_are_printed(detector):
    for name in ("green", 2, "2", "class 2"):
        assert set(detector.detect(demo_picture(), classes=[name]).labels) == {"green"}


def test_pictures_of_many_sizes_through_one_detector(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    path = tmp_path / "keep_aspect_ratio.pb"
    path.write_bytes(keep_aspect_ratio(96, 160).data)
    with Detector.open(path, engine="reference") as opened:
        upright = opened.detect(demo_picture())
        for _ in range(2):
            turned = opened.detect(np.rot90(demo_picture()))
            assert (turned.width, turned.height) == (upright.height, upright.width)
        for i in range(MAX_SIZES + 2):
            opened.detect(demo_picture()[: 200 + 16 * i])
        assert same(opened.detect(demo_picture()), upright)


def test_an_engine_of_a_size_that_goes_is_closed_when_nobody_is_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    path = tmp_path / "keep_aspect_ratio.pb"
    path.write_bytes(keep_aspect_ratio(96, 160).data)
    closed = []
    monkeypatch.setattr(NullEngine, "close", lambda engine: closed.append(engine))
    with Detector.open(path, engine="null") as opened:
        size = opened.model.input_size
        with opened._network(size, (480, 640), 1) as (_, first), opened._network(size, (480, 640), 1) as (_, again):
            assert first is again
            for i in range(MAX_SIZES + 1):
                opened.detect(demo_picture()[: 200 + 16 * i])
            assert len(closed) == 1
            assert first not in closed
        assert len(closed) == 2
        assert closed[-1] is first
    assert len(closed) == 2 + MAX_SIZES


def test_labels_are_read_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    with pytest.raises(LabelError, match="there is no such file"):
        Detector.open(demo_file(tmp_path), engine="reference", labels=tmp_path / "none.txt")
    assert not (tmp_path / "home").exists()


def test_a_closed_detector_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    closed = Detector.open(demo_file(tmp_path), engine="null")
    closed.close()
    with pytest.raises(SsdrtError, match="closed"):
        closed.detect(demo_picture())


def test_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    assert len(ssdrt.detect(demo_file(tmp_path), demo_picture(), engine="reference")) == 6


def test_in_order_reads_only_a_little_ahead_and_stops_with_its_reader():
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    results = in_order(lambda i: i * i, items(), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()
    assert len(taken) < 10


class StandIn:
    """Decodes on the processor what a GPU would: some files, the others it leaves alone."""

    def __init__(self):
        self.calls, self.fetched = [], []

    def decode(self, files, max_pixels):
        self.calls.append(len(files))
        return [self._decode(file, max_pixels) for file in files]

    def _decode(self, file, max_pixels):
        if not file.startswith(b"\xff\xd8"):
            return None
        pixels = decode_photo(io.BytesIO(file), "")
        return pixels if pixels.shape[0] * pixels.shape[1] <= max_pixels else None

    def fetch(self, picture):
        self.fetched.append(picture)
        return picture


def test_files_that_a_gpu_decodes_give_what_items_give(tmp_path, monkeypatch):
    for index in range(9):
        picture = Image.fromarray(np.roll(demo_picture(), 40 * index, axis=1)[: 300 + 10 * index])
        picture.save(tmp_path / f"{index}.{'png' if index % 3 == 1 else 'jpg'}")
    (tmp_path / "4b.jpg").write_bytes(b"no picture")
    (tmp_path / "5b.jpg").touch()
    names = [str(tmp_path / name) for name in sorted(os.listdir(tmp_path))]
    usual, *others = (open_source(*names).items for _ in range(3))
    (tmp_path / "5b.jpg").unlink()
    made = []
    monkeypatch.setattr(reference, "decoder", lambda: made.append(StandIn()) or made[-1], raising=False)
    monkeypatch.setattr(ssdrt.detector, "AT_ONCE", 4)
    with Detector.open(demo_file(tmp_path), engine="reference") as detector:
        usual = list(detector.detect_items(usual))
        for items, most in zip(others, (1 << 30, 480 * 340), strict=True):
            outcomes = list(detector.detect_files(items, most))
            assert made[0].fetched == []
            assert [one.item.source for one in outcomes] == [one.item.source for one in usual]
            assert [str(one.error) for one in outcomes] == [str(one.error) for one in usual]
            for one, wanted in zip(outcomes, usual, strict=True):
                if wanted.error is None:
                    assert same(one.found, wanted.found)
                    assert np.array_equal(one.frame.image, wanted.frame.image)
                    assert one.frame.image is one.frame.image
                    assert (one.frame.source, one.frame.index, one.frame.time) == (wanted.frame.source, 0, None)
            assert len(made[0].fetched) == (6 if most == 1 << 30 else 3)
            made[0].fetched.clear()
        assert [sorted(one.calls) for one in made] == [[3, 3, 4, 4, 4, 4]]
        assert list(detector.detect_files(iter(()), 1)) == []


def test_a_picture_that_the_engine_fails_on_costs_itself_alone(tmp_path, monkeypatch, caplog):
    for index in range(5):
        Image.fromarray(np.roll(demo_picture(), 40 * index, axis=1) * (index != 3)).save(tmp_path / f"{index}.jpg")
    infer = ReferenceEngine.infer

    def fails(engine, pixels):
        if not pixels.any(axis=(1, 2, 3)).all():
            raise EngineError("black")
        return infer(engine, pixels)

    monkeypatch.setattr(ReferenceEngine, "infer", fails)
    monkeypatch.setattr(reference, "decoder", StandIn, raising=False)
    with Detector.open(demo_file(tmp_path), engine="reference") as detector:
        files, items = (open_source(str(tmp_path / "*.jpg")).items for _ in range(2))
        outcomes, usual = list(detector.detect_files(files, 1 << 30)), list(detector.detect_items(items))
    assert [str(one.error) for one in outcomes] == [str(one.error) for one in usual] == ["None"] * 3 + ["black", "None"]
    assert all(same(a.found, b.found) for a, b in zip(outcomes, usual, strict=True) if a.found is not None)
    assert "reading 5 files one by one" in caplog.text


def test_an_engine_without_a_decoder_says_which_one_has_it(detector):
    with pytest.raises(EngineError, match="are for engine cuda"):
        next(detector.detect_files(iter(()), 1))
