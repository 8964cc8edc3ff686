"""`ssdrt bench`: latency and throughput, of the network alone and from decoded picture to detections."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ssdrt.cli.options import add_device, add_model, device_of, positive, seconds, words
from ssdrt.cli.table import table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ssdrt.preparation import Preparation

WARM_UP = 5  # calls that are not counted
PERCENTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}
WORDS = ("min", "mean", *PERCENTILES, "max")


@dataclass(frozen=True)
class Measurement:
    """One series. what: "network" (pixels of the network's size to raw boxes and scores) or "end to end" (resizing and
    NMS too); streams: calls under way at once; pictures in all; throughput in them a second; latency_ms by name, of a
    call, which is a picture or a batch."""

    engine: str
    precision: str
    what: str
    streams: int
    pictures: int
    throughput: float
    latency_ms: dict[str, float]


def add_arguments(parser: ArgumentParser) -> None:
    """What to measure, and for how long."""
    add_model(parser)
    parser.add_argument("--engine", type=words, default=["auto"], metavar="E,...", help="engines (default: auto)")
    parser.add_argument("--precision", type=words, default=["auto"], metavar="P,...", help="precisions (default: auto)")
    add_device(parser)
    parser.add_argument(
        "--seconds", type=seconds, default=5.0, metavar="S", help="of each of the four series (default: 5)"
    )
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="pictures in a call (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to a file as well")
    parser.epilog = (
        "Series: the network alone, and end to end (resize, network, NMS), first one call at a time, then with a "
        "stream a processor. GPUs need batches to be fast, and tensorrt a plan for them. Reading and decoding files is "
        "part of none."
    )


def run(args: Namespace) -> int:
    """Measure one engine and precision after the other, and print a table of each."""
    from ssdrt import __version__
    from ssdrt.cli.machine import processor
    from ssdrt.demo import demo_picture
    from ssdrt.preparation import prepare
    from ssdrt.sinks.base import whole_file

    picture = demo_picture()
    height, width = picture.shape[:2]
    print(f"ssdrt {__version__} on {processor()}; a decoded picture of {width}x{height}, {args.seconds:g} s a series")
    found: list[Measurement] = []
    for engine in args.engine:
        for precision in args.precision:
            preparation = prepare(args.model, engine, precision, device_of(args))
            series = list(_measure(preparation, picture, args.seconds, args.batch))
            print(f"\n{series[0].engine} {series[0].precision}\n{_report(series)}", flush=True)
            found += series
    if args.json:
        what = {"model": args.model, "seconds": args.seconds, "batch": args.batch}
        record = {"ssdrt": __version__, "processor": processor(), **what}
        with whole_file(Path(args.json)) as file:
            file.write(json.dumps({**record, "series": [asdict(one) for one in found]}, indent=1).encode() + b"\n")
    return 0


def _measure(preparation: Preparation, picture: NDArray[np.uint8], seconds: float, batch: int) -> Iterator[Measurement]:
    """Network and end to end, first one call at a time, then with a stream a processor."""
    import numpy as np

    from ssdrt.detector import SCORE, available_processors
    from ssdrt.pipeline import detect_pictures, graph_parameters
    from ssdrt.preprocess import network_size, to_network

    bundle = preparation.bundle
    resizer = bundle.model.preprocessing.resizer.value
    parameters = replace(graph_parameters(bundle.model), score_threshold=SCORE)
    height, width = picture.shape[:2]
    pixels = np.repeat(to_network(picture, resizer)[None], batch, axis=0)
    for streams in sorted({1, available_processors()}):
        model, engine = preparation.load(network_size(resizer, height, width), (height, width), streams)
        calls: dict[str, Callable[[], object]] = {
            "network": partial(engine.infer, pixels),
            "end to end": partial(detect_pictures, model, engine, [picture] * batch, parameters, model.labels.value),
        }
        for what, call in calls.items():
            times, elapsed = time_calls(call, streams, seconds)
            pictures, latency = len(times) * batch, latency_words(times)
            yield Measurement(bundle.engine, bundle.precision, what, streams, pictures, pictures / elapsed, latency)
        engine.close()


def time_calls(call: Callable[[], object], streams: int, seconds: float) -> tuple[list[float], float]:
    """The seconds of every call that `streams` threads make one after the other, each for `seconds`; and of it all."""
    for _ in range(WARM_UP):
        call()
    begin = time.perf_counter()

    def stream() -> list[float]:
        times: list[float] = []
        now = time.perf_counter()
        while not times or now < begin + seconds:
            start = now
            call()
            now = time.perf_counter()
            times.append(now - start)
        return times

    with ThreadPoolExecutor(streams) as pool:
        threads = [pool.submit(stream) for _ in range(streams)]
        times = [one for thread in threads for one in thread.result()]
    return times, time.perf_counter() - begin


def latency_words(times: list[float]) -> dict[str, float]:
    """Milliseconds of calls that took `times` seconds, under the names that trtexec and benchmark_app use."""
    import numpy as np

    milliseconds = 1e3 * np.array(times)
    percentiles = {name: float(np.percentile(milliseconds, percent)) for name, percent in PERCENTILES.items()}
    ends = {"min": float(milliseconds.min()), "max": float(milliseconds.max()), "mean": float(milliseconds.mean())}
    return {name: round((ends | percentiles)[name], 4) for name in WORDS}


def _report(series: list[Measurement]) -> str:
    rows = [("latency in ms", "streams", *WORDS, "throughput")]
    for one in series:
        latency = (f"{one.latency_ms[word]:.2f}" for word in WORDS)
        rows.append((one.what, str(one.streams), *latency, f"{one.throughput:.1f} pictures/s"))
    return table(rows, "l" + "r" * (len(WORDS) + 2))
