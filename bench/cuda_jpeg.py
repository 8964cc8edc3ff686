"""JPEG files decoded by nvJPEG on the GPU, and by Pillow: how far pixels and detections differ, and how many a second.

    python bench/cuda_jpeg.py RESULT.json MODEL.pb FOLDER [--files 1024] [--seconds 20]

FOLDER holds JPEG files; they are taken again and again. Every rate is the median of the rounds, in which all of them
take turns. Whole runs begin with paths of files and end with detections, as `ssdrt detect` has them; with the pictures
in the host's memory, too, where it says so. How many processors Pillow has is in the result.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ssdrt.detector import AT_ONCE, Detector
from ssdrt.engines.cuda import jpeg
from ssdrt.engines.cuda.driver import Gpu
from ssdrt.sources import open_source
from ssdrt.sources.base import MAX_PIXELS
from ssdrt.sources.photo import decode_photo


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    paths = sorted(args.folder.glob("*.jpg"))
    files = [path.read_bytes() for path in paths]
    report: dict = {
        "command": " ".join(sys.argv), "gpu": Gpu().name, "processors": len(os.sched_getaffinity(0)),
        "nvimgcodec": jpeg.open_library().__version__, "pictures": len(files),
        "bytes a file": round(sum(map(len, files)) / len(files)),
    }  # fmt: skip

    def keep() -> None:
        args.result.write_text(json.dumps(report, indent=1) + "\n")

    wanted = [decode_photo(io.BytesIO(file), "") for file in files]
    report["pixels a picture"] = round(sum(one.size for one in wanted) / 3 / len(wanted))
    begin = time.perf_counter()
    decoder = jpeg.JpegDecoder()
    report["seconds to open the decoder"] = [round(time.perf_counter() - begin, 3)]
    begin = time.perf_counter()
    jpeg.JpegDecoder()
    report["seconds to open the decoder"].append(round(time.perf_counter() - begin, 3))
    report["left to the processor"] = sum(one is None for one in decoder.decode(files))
    report["pixels"] = pixels(decoder, files, wanted)
    keep()
    with Detector.open(args.model, "cuda") as detector:
        report["detections"] = detections(detector, decoder, files, wanted)
        keep()
        report["pictures a second"] = rates(detector, decoder, files, paths, args.files, end)
    keep()
    print(json.dumps(report, indent=1))


def pixels(decoder, files, wanted) -> dict:
    """Differences from Pillow's pixels in levels of 255; whether a file's pixels depend on its place in the call."""
    found = decoder.decode(files)
    pairs = [(decoder.fetch(a), b) for a, b in zip(found, wanted, strict=True) if a is not None]
    alike = [(a.astype(np.int16) - b.astype(np.int16)) for a, b in pairs if a.shape == b.shape]
    apart = np.concatenate([np.abs(one).ravel() for one in alike])
    turned = decoder.decode(files[::-1])[::-1]
    alone = [decoder.decode([file])[0] for file in files]
    return {
        "decoded": len(pairs), "of another shape": len(pairs) - len(alike), "mean": round(float(apart.mean()), 3),
        "bias": round(float(np.mean([one.mean() for one in alike])), 3), "largest": int(apart.max()),
        "share within 1": round(float((apart <= 1).mean()), 4), "within 4": round(float((apart <= 4).mean()), 4),
        "files whose pixels depend on their place": sum(
            not all(np.array_equal(decoder.fetch(a), decoder.fetch(other)) for other in (b, c))
            for a, b, c in zip(found, turned, alone, strict=True) if a is not None
        ),
    }  # fmt: skip


def detections(detector, decoder, files, wanted) -> dict:
    """Of the detections in Pillow's pixels, how many are found in nvJPEG's, by least score and limits."""
    there = [decoder.fetch(one) if one is not None else other
             for one, other in zip(decoder.decode(files), wanted, strict=True)]  # fmt: skip
    result: dict = {}
    for least in (0.05, 0.3, 0.5):
        total = 0
        within = {"2 px and 0.02": 0, "4 px and 0.05": 0}
        limits = {"2 px and 0.02": (2, 0.02), "4 px and 0.05": (4, 0.05)}
        for a, b in zip(wanted, there, strict=True):
            one, other = detector.detect(a, score_threshold=least), detector.detect(b, score_threshold=least / 2)
            total += len(one)
            for name, (px, score) in limits.items():
                within[name] += sum(
                    bool(np.any(
                        (np.abs(other.boxes_xyxy - box).max(axis=1) <= px)
                        & (np.abs(other.scores - value) <= score) & (other.class_ids == kind)
                    )) for box, value, kind in zip(one.boxes_xyxy, one.scores, one.class_ids, strict=True)
                )  # fmt: skip
        result[f"score {least} and more"] = {"in Pillow's": total, **within}
    return result


def rates(detector, decoder, files, paths, count, end) -> dict:
    """Pictures a second of each way, in turns."""
    many = [files[index % len(files)] for index in range(count)]
    groups = [many[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]
    cpus = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(cpus)
    chosen = detector._options(score_threshold=0.3)

    def whole(detect, *limit, fetch: bool = False) -> None:
        for one in detect(open_source(folder).items, *limit, score_threshold=0.3):
            if fetch:
                one.frame.image  # noqa: B018

    def decode_and_detect() -> None:
        for group in groups:
            detector._detect_batch([one for one in decoder.decode(group) if one is not None], chosen)

    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            os.symlink(paths[index % len(paths)].resolve(), Path(folder) / f"{index:06}.jpg")
        ways = {
            "decoding": lambda: [decoder.decode(group) for group in groups],
            "decoding and fetching": lambda: [[*map(decoder.fetch, decoder.decode(group))] for group in groups],
            "decoding and detecting, one thread": decode_and_detect,
            "whole, detect_files": lambda: whole(detector.detect_files, MAX_PIXELS),
            "whole, detect_files, every picture asked for": lambda: whole(
                detector.detect_files, MAX_PIXELS, fetch=True
            ),
            "whole, detect_items (Pillow)": lambda: whole(detector.detect_items),
            f"decoding, Pillow, {cpus} threads": lambda: [*pool.map(lambda f: decode_photo(io.BytesIO(f), ""), many)],
            "decoding, Pillow, 1 thread": lambda: [decode_photo(io.BytesIO(f), "") for f in many[: count // 8]],
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        rounds = 0
        while rounds < 2 or (time.monotonic() < end and rounds < 9):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                done = count // 8 if name.endswith(", 1 thread") else count
                taken[name].append(done / (time.perf_counter() - begin))
                if rounds >= 2 and time.monotonic() > end:
                    break
            rounds += 1
    pool.shutdown()
    return {name: round(statistics.median(values[1:])) for name, values in taken.items()} | {"rounds": rounds - 1}


if __name__ == "__main__":
    main()
