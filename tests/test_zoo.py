"""The zoo, with archives of our own on a real web server on this machine."""

import hashlib
import io
import re
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ssdrt import zoo
from ssdrt.detector import Detector
from ssdrt.errors import MissingExtra, ZooError
from ssdrt.zoo import Archive, fetch, fetch_archive, list_models, model_path

GRAPH = bytes(range(256)) * 40


def packed(*members, graph=GRAPH) -> bytes:
    """A .tar.gz with a frozen graph, and whatever else is given, before it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if graph is not None:
            info = tarfile.TarInfo("tiny/frozen_inference_graph.pb")
            info.size = len(graph)
            archive.addfile(info, io.BytesIO(graph))
    return file.getvalue()


def member(name: str, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content` under any name, from where the client asks on unless `server.ranges` is off."""

    def do_GET(self):
        content, asked = self.server.content, self.headers.get("Range", "")
        self.server.asked.append(asked)
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : self.server.cut_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.ranges, server.cut_at, server.asked = packed(), True, None, []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def archive(server, home):
    pytest.importorskip("pooch", reason="the extra `zoo` is not installed")
    assert not home.exists()
    return Archive("tiny", len(server.content), sha384(server.content), f"http://127.0.0.1:{server.server_port}/")


def sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()


def without_checksum(archive: Archive) -> Archive:
    return Archive(archive.name, base_url=archive.base_url)


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_graph_is_fetched_once(server, archive, home):
    path = fetch_archive(archive)
    assert path == home / "zoo" / "tiny" / "frozen_inference_graph.pb"
    assert path.read_bytes() == GRAPH
    assert fetch_archive(archive) == path
    assert len(server.asked) == 1
    assert files(home) == ["zoo/tiny.tar.gz", "zoo/tiny/frozen_inference_graph.pb"]


def test_download_that_was_cut_off_goes_on_where_it_was(server, archive, home):
    server.cut_at = 100
    with pytest.raises(ZooError, match=f"100 of {len(server.content)} bytes"):
        fetch_archive(archive)
    assert (home / "zoo" / "tiny.tar.gz.part").stat().st_size == 100
    server.cut_at = None
    assert fetch_archive(archive).read_bytes() == GRAPH
    assert server.asked == ["bytes=0-", "bytes=100-"]


def test_server_that_cannot_resume_sends_it_all_again(server, archive, home):
    (home / "zoo").mkdir(parents=True)
    (home / "zoo" / "tiny.tar.gz.part").write_bytes(b"x" * 100)
    server.ranges = False
    assert fetch_archive(archive).read_bytes() == GRAPH


def test_left_over_that_is_longer_than_the_archive_is_dropped(server, archive, home):
    (home / "zoo").mkdir(parents=True)
    (home / "zoo" / "tiny.tar.gz.part").write_bytes(bytes(len(server.content) + 5))
    assert fetch_archive(archive).read_bytes() == GRAPH
    assert len(server.asked) == 2


def test_wrong_checksum_is_refused_and_not_kept(server, archive, home):
    server.content = server.content[:-1] + b"!"
    with pytest.raises(ZooError, match="not have the checksum"):
        fetch_archive(archive)
    assert files(home) == []


def test_checksum_is_recorded_at_first_and_held_afterwards(server, archive, home):
    archive = without_checksum(archive)
    path = fetch_archive(archive)
    assert (home / "zoo" / "tiny.sha384").read_text().strip() == sha384(server.content)
    path.unlink()
    (home / "zoo" / "tiny.tar.gz").unlink()
    assert fetch_archive(archive) == path
    path.unlink()
    (home / "zoo" / "tiny.tar.gz").unlink()
    server.content = packed(graph=b"another")
    with pytest.raises(ZooError, match="not have the checksum"):
        fetch_archive(archive)


@pytest.mark.parametrize(
    "content",
    [b"<html>log in first</html>", packed()[:-40], packed(graph=None), b""],
    ids=["page", "cut off", "without a graph", "empty"],
)
def test_what_is_no_archive_is_refused_and_its_checksum_not_recorded(server, archive, home, content):
    server.content = content
    with pytest.raises(ZooError):
        fetch_archive(without_checksum(archive))
    assert not any(name.endswith((".sha384", ".pb")) for name in files(home))


def test_hostile_members_are_never_written(server, archive, tmp_path):
    server.content = packed(
        (member("../escaped"), b"x"),
        (member("/tmp/escaped-absolute"), b"x"),
        (member("link", tarfile.SYMTYPE, str(tmp_path)), b""),
        (member("link/through"), b"x"),
        (member("evil/frozen_inference_graph.pb", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("hard/frozen_inference_graph.pb", tarfile.LNKTYPE, "/etc/passwd"), b""),
        (member("fifo/frozen_inference_graph.pb", tarfile.FIFOTYPE), b""),
    )
    assert fetch_archive(without_checksum(archive)).read_bytes() == GRAPH
    assert files(tmp_path) == [
        "home/zoo/tiny.sha384", "home/zoo/tiny.tar.gz", "home/zoo/tiny/frozen_inference_graph.pb",
    ]  # fmt: skip


def test_gzip_bomb_is_refused_by_its_sizes(server, archive, monkeypatch):
    monkeypatch.setattr(zoo, "MAX_ARCHIVE", 100_000)
    server.content = packed((member("zeros"), bytes(200_000)))
    assert len(server.content) < 10_000
    with pytest.raises(ZooError, match="unpacks to more than"):
        fetch_archive(without_checksum(archive))


def test_endless_download_ends(archive, monkeypatch):
    monkeypatch.setattr(zoo, "MAX_ARCHIVE", 10)
    with pytest.raises(ZooError):
        fetch_archive(archive)


def test_offline_says_what_to_put_where(home):
    pytest.importorskip("pooch", reason="the extra `zoo` is not installed")
    offline = Archive("tiny", base_url="http://127.0.0.1:1/")
    with pytest.raises(ZooError) as caught:
        fetch_archive(offline)
    assert "http://127.0.0.1:1/tiny.tar.gz" in str(caught.value)
    assert str(home / "zoo" / "tiny.tar.gz") in str(caught.value)


def test_archive_put_there_by_hand_needs_no_network(server, archive, home):
    offline = Archive("tiny", archive.size, archive.sha384, "http://127.0.0.1:1/")
    (home / "zoo").mkdir(parents=True)
    (home / "zoo" / "tiny.tar.gz").write_bytes(server.content)
    assert fetch_archive(offline).read_bytes() == GRAPH


@pytest.mark.usefixtures("home")
def test_without_pooch_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ssdrt\[zoo\]'"):
        fetch("ssdlite_mobilenet_v2_coco_2018_05_09")


def test_folder_that_cannot_be_made(monkeypatch, tmp_path):
    pytest.importorskip("pooch", reason="the extra `zoo` is not installed")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "file"))
    with pytest.raises(ZooError):
        fetch("ssdlite_mobilenet_v2_coco_2018_05_09")


def test_unknown_names_get_the_nearest():
    with pytest.raises(ZooError, match="did you mean ssd_mobilenet_v2_coco_2018_03_29"):
        fetch("ssd_mobilenet_v2_coco")
    with pytest.raises(ZooError, match="ssdrt models"):
        fetch("zzz")


def test_list_says_what_is_here(home):
    models = list_models()
    assert all(path is None for _, path in models)
    archive = models[0][0]
    (home / "zoo" / archive.name).mkdir(parents=True)
    (home / "zoo" / archive.name / "frozen_inference_graph.pb").touch()
    assert [path is not None for _, path in list_models()] == [True] + [False] * (len(models) - 1)
    assert model_path(archive.name) == fetch(archive.name) == list_models()[0][1]


def test_table_of_archives():
    assert len({archive.name for archive in zoo.ARCHIVES}) == len(zoo.ARCHIVES) >= 7
    assert all(archive.sha384 is None or re.fullmatch("[0-9a-f]{96}", archive.sha384) for archive in zoo.ARCHIVES)
    assert zoo.ARCHIVES[0].url == (
        "http://download.tensorflow.org/models/object_detection/ssd_mobilenet_v1_coco_2018_01_28.tar.gz"
    )


@pytest.mark.parametrize("text", ["model.pb", "missing.pb", "folder/name", "./name"])
def test_paths_are_not_zoo_names(text):
    assert str(model_path(text)) in (text, text.removeprefix("./"))


def test_our_own_model_comes_with_the_package_and_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    path = model_path("person-hand")
    assert path.stat().st_size < 10_000_000
    with Detector.open("person-hand", engine="reference") as detector:
        assert detector.labels.names == {1: "person", 2: "hand"}
        assert detector.model.input_size == (300, 300)
    assert not (tmp_path / "zoo").exists()
