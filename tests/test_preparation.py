"""From a file to a plan: what is built, what comes from the cache, what is built again."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import mutants
from build import demo_bytes, demo_file
from ssdrt.bundle import home, load_bundle, save_bundle
from ssdrt.demo import demo_picture
from ssdrt.detector import Detector
from ssdrt.engines import base, cuda, null, reference
from ssdrt.errors import EngineError, GraphError, ModelError, SsdrtError
from ssdrt.preparation import build, prepare
from surgery import keep_aspect_ratio


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))


def test_the_second_time_comes_from_the_cache(tmp_path):
    path = demo_file(tmp_path)
    first, second = prepare(path, "null"), prepare(path, "null")
    assert (first.cached, second.cached) == (False, True)
    assert second.bundle.model.digest == first.bundle.model.digest


def test_what_the_plan_depends_on_makes_another_plan(tmp_path, monkeypatch):
    path = demo_file(tmp_path)
    prepare(path, "null")
    assert not prepare(path, "reference").cached
    monkeypatch.setattr(null, "fingerprint", lambda: "another library")
    assert not prepare(path, "null").cached
    path.write_bytes(demo_bytes() + b"\x22\x00")  # versions {}: another file, the same graph
    assert not prepare(path, "null").cached


def test_what_the_environment_asks_of_a_build_keeps_plans_apart(tmp_path, monkeypatch):
    path = demo_file(tmp_path)
    monkeypatch.setattr(null, "settings", cuda.settings, raising=False)
    monkeypatch.setenv(cuda.UNTUNED, "1")
    assert not prepare(path, "null").cached
    monkeypatch.setenv(cuda.UNTUNED, "")
    assert not prepare(path, "null").cached
    monkeypatch.setenv(cuda.UNTUNED, "1")
    assert prepare(path, "null").cached


def test_a_damaged_cache_is_built_again_with_one_line(tmp_path, caplog):
    path = demo_file(tmp_path)
    prepare(path, "null")
    (kept,) = (home() / "bundles").iterdir()
    kept.write_bytes(kept.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING, "ssdrt"):
        assert not prepare(path, "null").cached
    assert len(caplog.messages) == 1
    assert prepare(path, "null").cached


def test_a_bundle_is_taken_as_it_is_or_rebuilt_from_its_own_model(tmp_path, monkeypatch, caplog):
    place = tmp_path / "model.ssdrt"
    save_bundle(prepare(demo_file(tmp_path), "null").bundle, place)
    assert prepare(place, "null").cached
    monkeypatch.setattr(null, "fingerprint", lambda: "another machine")
    with caplog.at_level(logging.WARNING, "ssdrt"):
        rebuilt = prepare(place, "null")
    assert (rebuilt.cached, rebuilt.bundle.fingerprint) == (False, "another machine")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("rebuilding it for null here")
    assert load_bundle(place).fingerprint != "another machine"  # the user's file is the user's


def test_a_bundle_that_is_rebuilt_lacks_what_its_build_was_told(tmp_path, monkeypatch, caplog):
    place = tmp_path / "model.ssdrt"
    save_bundle(prepare(demo_file(tmp_path), "null").bundle, place)
    monkeypatch.setattr(null, "fingerprint", lambda: "another machine")
    monkeypatch.setattr(null, "OPTIONS", ("batch",), raising=False)
    with caplog.at_level(logging.WARNING, "ssdrt"):
        prepare(place, "null")
    assert caplog.messages[0].endswith("rebuilding it for null here, without what `ssdrt build` was told")


@pytest.fixture
def two_engines(monkeypatch):
    """`auto` means null, whose builds fail, and then reference."""

    def fail(*_, **options):
        raise EngineError(f"the plan that was built does not compute this network {options}")

    monkeypatch.setattr(base, "PREFERENCE", ("null", "reference"))
    monkeypatch.setattr(null, "build", fail)


@pytest.mark.usefixtures("two_engines")
def test_auto_goes_on_to_the_next_engine_when_one_cannot_build(tmp_path, caplog):
    path = demo_file(tmp_path)
    with caplog.at_level(logging.WARNING, "ssdrt"):
        first = prepare(path)
    assert (first.bundle.engine, first.cached, len(caplog.messages)) == ("reference", False, 1)
    assert "engine null fails, so reference is tried (--engine reference does at once)" in caplog.text
    assert "does not compute this network" in caplog.text
    assert prepare(path).cached
    with pytest.raises(EngineError, match="does not compute this network"):
        prepare(path, "null")
    assert Detector.of_model(first.bundle.model).engine == "reference"
    place = tmp_path / "model.ssdrt"
    save_bundle(replace(first.bundle, engine="null", fingerprint="another machine"), place)
    assert prepare(place).bundle.engine == "reference"


@pytest.mark.usefixtures("two_engines")
def test_a_layer_that_an_engine_lacks_is_left_to_the_next_and_a_file_that_is_no_ssd_to_none(
    tmp_path, monkeypatch, caplog
):
    def lacks(*_):
        raise ModelError("no step for such layers")

    monkeypatch.setattr(null, "build", lacks)
    assert prepare(demo_file(tmp_path)).bundle.engine == "reference"
    caplog.clear()
    (tmp_path / "other.pb").write_bytes(b"")
    with pytest.raises(SsdrtError):
        prepare(tmp_path / "other.pb")
    assert not caplog.messages


@pytest.mark.usefixtures("two_engines")
def test_auto_takes_an_engine_that_has_the_options(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(reference, "OPTIONS", ("batch",), raising=False)
    monkeypatch.setattr(reference, "build", lambda *_, batch: bytes(batch))
    assert prepare(demo_file(tmp_path), options={"batch": 3}).bundle.plan == bytes(3)
    assert not caplog.messages
    with pytest.raises(EngineError, match="engine null has no option 'level'; it has none"):
        prepare(demo_file(tmp_path), options={"level": 3})


def test_a_device_is_passed_on_and_gpus_of_one_kind_share_a_plan(tmp_path, monkeypatch):
    """Null as an engine on three GPUs, of which the last is of another kind."""
    built, loaded, load_null = [], [], null.load

    def build(_model, _precision, device=0):
        built.append(device)
        return b""

    def load(*what, device=0):
        loaded.append(device)
        return load_null(*what)

    def unavailable(device=0):
        return None if device < 3 else f"there is no GPU {device}: this process sees 3, from 0 on"

    monkeypatch.setattr(base, "PREFERENCE", ("null", "reference"))
    for name, function in {
        "unavailable": unavailable, "precisions": lambda device=0: ("fp32",), "build": build, "load": load,  # noqa: ARG005
        "fingerprint": lambda device=0: "other" if device == 2 else "kind",
    }.items():  # fmt: skip
        monkeypatch.setattr(null, name, function)
    monkeypatch.setattr(null, "OPTIONS", ("device",), raising=False)
    path = demo_file(tmp_path)
    for number, device in enumerate((1, 0, 2)):
        preparation = prepare(path, options={"device": device})
        assert (preparation.bundle.engine, preparation.cached) == ("null", number == 1)
        with Detector(preparation) as detector:
            detector.detect(np.zeros((60, 60, 3), np.uint8))
    assert (built, loaded) == ([1, 2], [1, 0, 2])
    place = tmp_path / "model.ssdrt"
    save_bundle(prepare(path, "null").bundle, place)
    assert [prepare(place, options={"device": device}).bundle.fingerprint for device in (1, 2)] == ["kind", "other"]
    assert [prepare(place, options={"device": device}).options for device in (1, 2)] == [{"device": 1}, {"device": 2}]
    assert built == [1, 2]
    Detector.of_model(preparation.bundle.model, options={"device": 1}).close()
    assert built == [1, 2, 1]
    for engine in ("auto", "null"):
        with pytest.raises(EngineError, match="there is no GPU 3: this process sees 3"):
            prepare(path, engine, options={"device": 3})
    with pytest.raises(EngineError, match="engine reference runs on the processor"):
        prepare(path, "reference", options={"device": 0})


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "file"))
    assert not prepare(demo_file(tmp_path), "null").cached


def test_a_precision_that_the_engine_lacks_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"null does not compute in fp16 here; it does in fp32"):
        build(prepare(demo_file(tmp_path), "null").bundle.model, "null", "fp16", b"")


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(GraphError, match="No such file"):
        prepare(tmp_path / "nothing.pb", "null")


def test_auto_says_what_it_measured(tmp_path):
    pytest.importorskip("openvino")
    bundle = prepare(demo_file(tmp_path), "openvino").bundle
    assert bundle.precision in ("fp32", "bf16")
    assert "fp32" in bundle.why or bundle.why == "the only precision of this engine here"


def test_whatever_happened_to_the_cache_the_boxes_are_right(tmp_path):
    path = demo_file(tmp_path)
    with Detector.open(path, "reference") as detector:
        expected = detector.detect(demo_picture())
    (kept,) = (home() / "bundles").iterdir()
    whole = kept.read_bytes()
    for seed in range(12):
        kept.write_bytes(mutants.damage(whole, seed))
        with Detector.open(path, "reference") as detector:
            found = detector.detect(demo_picture())
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
        assert kept.read_bytes() == whole


def test_many_may_build_the_same_at_once(tmp_path):
    path = demo_file(tmp_path)
    for _ in range(10):
        for kept in home().glob("bundles/*"):
            kept.unlink()
        with ThreadPoolExecutor(4) as pool:
            prepared = list(pool.map(lambda _: prepare(path, "null"), range(4)))
        assert {p.bundle.model.digest for p in prepared} == {prepared[0].bundle.model.digest}
        assert [p.suffix for p in (home() / "bundles").iterdir()] == [".ssdrt"]


def test_pictures_of_other_sizes_get_networks_of_their_own(tmp_path):
    path = tmp_path / "keep_aspect_ratio.pb"
    path.write_bytes(keep_aspect_ratio(96, 160).data)
    first = prepare(path, "null")
    assert first.bundle.graph == path.read_bytes()
    assert first.load((96, 128), (480, 640), 1)[0] is first.bundle.model
    tall, _ = first.load((128, 96), (640, 480), 1)
    assert tall.input_size == (128, 96)
    assert len(list((home() / "bundles").iterdir())) == 2
    place = tmp_path / "model.ssdrt"
    save_bundle(first.bundle, place)
    again, _ = prepare(place, "null").load((128, 96), (640, 480), 1)
    np.testing.assert_array_equal(again.anchors.value, tall.anchors.value)
