"""`ssdrt models`: the zoo."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ssdrt.cli.table import table


def add_arguments(parser: ArgumentParser) -> None:
    """There are none but those of every command."""
    parser.epilog = "Example: ssdrt detect person-hand photo.jpg"


def run(args: Namespace) -> int:  # noqa: ARG001
    """List names, sizes, and where each is or can be had."""
    from ssdrt.bundle import home
    from ssdrt.zoo import BASE_URL, INCLUDED, list_models

    rows = [("name", "archive", "on this machine")]
    rows += [(name, "included", str(graph)) for name, graph in INCLUDED.items()]
    for archive, graph in list_models():
        size = f"{archive.size / 1e6:.1f} MB" if archive.size else "?"
        rows.append((archive.name, size, str(graph) if graph else "no"))
    print(table(rows, "lrl", indent=""))
    print(f"\nAnother model is downloaded from {BASE_URL}NAME.tar.gz when it is first used.")
    print(f"Without a network, put that file in {home() / 'zoo'} yourself.")
    return 0
