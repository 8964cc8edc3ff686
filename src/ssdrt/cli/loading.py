"""A model as the user names it."""

from __future__ import annotations

import logging
from argparse import Namespace
from dataclasses import replace

from ssdrt.bundle import load_bundle
from ssdrt.cli.options import device_of
from ssdrt.detector import Detector
from ssdrt.graph import read_graph
from ssdrt.labels import BESIDE, labels_beside, read_labels
from ssdrt.legacy.binary import looks_like_uff
from ssdrt.legacy.reader import read_model
from ssdrt.model import Fact, SsdModel
from ssdrt.recover import recover
from ssdrt.zoo import model_path


def load_model(name: str) -> SsdModel:
    """What a frozen graph, a bundle, a .uff or a model of the zoo says about its detector.

    Raises
    ------
    SsdrtError: it cannot be read, recovered or fetched.
    """
    path = model_path(name)
    if looks_like_uff(path):
        return read_model(path)
    if path.suffix == ".ssdrt":
        return load_bundle(path).model
    model, labels = recover(read_graph(path)), labels_beside(path)
    return model if labels is None else replace(model, labels=Fact(labels, "", BESIDE))


def open_detector(args: Namespace) -> Detector:
    """`Detector.open` as the command line asks for it, for .uff files too; --verbose hears what was chosen.

    Raises
    ------
    SsdrtError: the model, the engine or the labels cannot be used.
    """
    path, labels, options = model_path(args.model), args.labels, device_of(args)
    if not looks_like_uff(path):
        detector = Detector.open(path, args.engine, args.precision, labels, options)
    else:
        model = read_model(path)
        if labels is not None:
            model = replace(model, labels=Fact(read_labels(labels), "", labels))
        detector = Detector.of_model(model, args.engine, args.precision, options)
    logging.getLogger("ssdrt").info("engine %s, precision %s", detector.engine, detector.precision)
    return detector
