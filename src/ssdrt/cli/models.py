"""`ssdrt models`: the zoo."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ssdrt.cli.table import table


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""
    parser.epilog = "A model is downloaded when it is first used: ssdrt detect ssd_mobilenet_v1_coco_2018_01_28 photo.jpg"


def run(args: Namespace) -> int:  # noqa: ARG001
    """List names, sizes, and where each is or can be had."""
    from ssdrt.bundle import home
    from ssdrt.zoo import list_models

    rows = [("name", "archive", "where")]
    for archive, graph in list_models():
        size = f"{archive.size / 1e6:.1f} MB" if archive.size else "?"
        rows.append((archive.name, size, str(graph) if graph else archive.url))
    print(table(rows, "lrl", indent=""))
    print(f"\nDownloads go to {home() / 'zoo'}; without a network, put the .tar.gz there yourself.")
    return 0
