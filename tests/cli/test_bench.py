"""`ssdrt bench`: its arithmetic, and the table and file it makes."""

import json

import pytest

from ssdrt.cli.bench import WORDS, latency_words, time_calls
from ssdrt.detector import available_processors

GRAPH = "frozen_inference_graph.pb"


def test_percentiles():
    words = latency_words([milliseconds / 1e3 for milliseconds in range(101)])
    assert words == {"min": 0, "mean": 50, "median": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert tuple(words) == WORDS


@pytest.mark.parametrize("streams", [1, 3])
def test_every_stream_calls_until_the_time_is_over(streams):
    calls = []
    times, elapsed = time_calls(lambda: calls.append(sum(range(20_000))), streams, 0.05)
    assert len(calls) == len(times) + 5
    assert elapsed >= 0.05
    assert sum(times) <= streams * elapsed


@pytest.mark.parametrize("batch", [1, 3])
def test_table_and_file(ssdrt, tmp_path, batch):
    words = ("--engine", "null", "--seconds", "0.05", "--batch", batch)
    code, out, err = ssdrt("bench", GRAPH, *words, "--json", tmp_path / "bench.json")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "bench.json").read_text())
    streams = sorted({1, available_processors()})
    expected = [(what, number) for number in streams for what in ("network", "end to end")]
    assert [(one["what"], one["streams"]) for one in record["series"]] == expected
    assert record["batch"] == batch
    for one in record["series"]:
        assert one["pictures"] % batch == 0
        latencies = [one["latency_ms"][word] for word in ("min", "median", "p90", "p95", "p99", "max")]
        assert latencies == sorted(latencies)
        assert f"{one['throughput']:.1f} pictures/s" in out
    assert all(word in out for word in WORDS)
