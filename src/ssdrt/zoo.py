"""Models by name: our own, which comes with the package, and official ones, which are downloaded on first use.

The downloads are checked, unpacked and kept, in the folder `zoo` of `bundle.home()`: NAME.tar.gz as it was downloaded,
NAME/frozen_inference_graph.pb, and NAME.sha384 for the archives whose checksum was first seen here. Without a network,
put NAME.tar.gz there by hand.
"""

from __future__ import annotations

import difflib
import shutil
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ssdrt.bundle import home
from ssdrt.errors import ZooError, import_extra, shorten
from ssdrt.progress import progress

BASE_URL = "http://download.tensorflow.org/models/object_detection/"
GRAPH = "frozen_inference_graph.pb"
MAX_ARCHIVE = 2_000_000_000  # bytes, packed as unpacked
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 18


@dataclass(frozen=True)
class Archive:
    """A .tar.gz that holds a frozen graph; size in bytes; size and sha384 None where nobody has published them."""

    name: str
    size: int | None = None
    sha384: str | None = None
    base_url: str = BASE_URL

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return f"{self.base_url}{self.name}.tar.gz"


ARCHIVES = (
    Archive(
        "ssd_mobilenet_v1_coco_2018_01_28",
        76_541_073,
        "95d7ad978aef6fa7fded5fac04f2cdc286f82ee8e59e2ed638de6d0000dbed051c409ed276b56672d17b5b79fe6ba78c",
    ),
    Archive(
        "ssdlite_mobilenet_v2_coco_2018_05_09",
        51_025_348,
        "8e205630237f1913ac0ed623d48798f1fa03a9e95c467bd149eb5f6107e704a8131cdb0a72fcf6517dafa0ff47d32a4e",
    ),
    Archive(
        "ssd_mobilenet_v1_fpn_shared_box_predictor_640x640_coco14_sync_2018_07_03",
        135_664_441,
        "e89adbaf822f508c30e77b9aa6e9a0a566493466617064c3ee7203d9210756f6d5cd5740140ce2c0df46514d37bb5023",
    ),
    Archive("ssd_mobilenet_v2_coco_2018_03_29"),
    Archive("ssd_inception_v2_coco_2018_01_28"),
    Archive("ssd_inception_v2_coco_2017_11_17"),
    Archive("ssd_mobilenet_v1_coco_2017_11_17"),
)

INCLUDED = {"person-hand": Path(__file__).parent / "models" / "person_hand.pb"}
"""Name -> graph in this package; its class names lie beside it. docs/person-hand.md tells what it is."""


def graph_path(archive: Archive) -> Path:
    """Where the graph of an archive lies once it is unpacked."""
    return home() / "zoo" / archive.name / GRAPH


def list_models() -> list[tuple[Archive, Path | None]]:
    """Every model of the zoo, and its graph if it is on this machine."""
    return [(archive, graph_path(archive) if graph_path(archive).is_file() else None) for archive in ARCHIVES]


def model_path(name: str | Path) -> Path:
    """The file that `name` names: a path, or a zoo name, whose graph is then fetched.

    Raises
    ------
    ZooError: as `fetch`; a name without folder or suffix that is no file is taken for a zoo name.
    """
    path = Path(name)
    if str(name) in INCLUDED and not path.exists():
        return INCLUDED[str(name)]
    if path.exists() or path.name != str(name) or path.suffix:
        return path
    return fetch(str(name))


def fetch(name: str) -> Path:
    """The path of a zoo model's frozen graph, downloaded if it is not on this machine.

    Raises
    ------
    ZooError: no such name, no network, no space, or not the archive that it should be.
    MissingExtra: the archive must be downloaded and pooch is not installed.
    """
    archive = next((archive for archive in ARCHIVES if archive.name == name), None)
    if archive is None:
        near = difflib.get_close_matches(name, [*INCLUDED, *(archive.name for archive in ARCHIVES)], n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "ssdrt models lists the names"
        raise ZooError(f"{shorten(name)!r} is neither a file nor a model of the zoo; {hint}")
    return fetch_archive(archive)


def fetch_archive(archive: Archive) -> Path:
    """`fetch` of an archive that need not be in the list."""
    graph = graph_path(archive)
    if graph.is_file():
        return graph
    from http.client import HTTPException  # here and below: a tenth of the start of whatever downloads nothing

    pooch = import_extra("pooch", "zoo", "downloading a model")
    pooch.get_logger().setLevel("WARNING")
    packed, record = (graph.parent.with_name(archive.name + suffix) for suffix in (".tar.gz", ".sha384"))
    download = partial(_download, part=packed.with_name(packed.name + ".part"), label=archive.name)
    try:
        graph.parent.mkdir(parents=True, exist_ok=True)
        known = archive.sha384 or (record.read_text("ascii").strip() if record.is_file() else None)
        pooch.retrieve(
            archive.url, f"sha384:{known}" if known else None, packed.name, packed.parent, downloader=download
        )
        _unpack(packed, graph)
        if known is None:
            record.write_text(pooch.file_hash(packed, alg="sha384") + "\n", "ascii")
    except ValueError as error:
        raise ZooError(f"what {archive.url} gives does not have the checksum {known}; it was not kept") from error
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise ZooError(f"{archive.name}: {why}; without a network, put {archive.url} at {packed}") from error
    return graph


def _download(url: str, target: str, _pooch: object, *, part: Path, label: str) -> None:
    """Download to `part`, going on where an earlier call was cut off, and move it to `target` when it is whole."""
    from http import HTTPStatus
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.exists() else 0
    try:
        response = urlopen(Request(url, headers={"User-Agent": "ssdrt", "Range": f"bytes={have}-"}), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        part.unlink()  # as long as the archive or longer, yet not accepted: begin again
        return _download(url, target, _pooch, part=part, label=label)
    with response:
        resumes = response.status == HTTPStatus.PARTIAL_CONTENT
        have = have if resumes else 0
        total = have + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        with part.open("ab" if resumes else "wb") as file, progress(label, total, "bytes") as advance:
            advance(have)
            while (chunk := response.read1(CHUNK)) and have <= MAX_ARCHIVE:
                have += file.write(chunk)
                advance(len(chunk))
    if have > MAX_ARCHIVE or (total is not None and have < total):
        raise OSError(f"the download stopped at {have} of {total} bytes; the next one goes on from there")
    part.replace(target)
    return None


def _unpack(packed: Path, graph: Path) -> None:
    """Copy the one file that is needed out of an archive; names in the archive are compared and never used as paths.

    Raises
    ------
    ZooError: damaged, too large, or without a frozen graph.
    """
    import tarfile

    part = graph.with_name(graph.name + ".part")
    unpacked = 0
    try:
        with tarfile.open(packed, "r:gz") as archive:
            for member in archive:
                unpacked += member.size
                if unpacked > MAX_ARCHIVE:
                    raise ZooError(f"{packed} unpacks to more than {MAX_ARCHIVE} bytes; delete it")
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None and PurePosixPath(member.name).name == GRAPH:
                    with content, part.open("wb") as file:
                        shutil.copyfileobj(content, file)
                    part.replace(graph)
                    return
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ZooError(f"{packed} is damaged ({error}); delete it and try again") from error
    raise ZooError(f"{packed} holds no {GRAPH}; delete it and try again")
