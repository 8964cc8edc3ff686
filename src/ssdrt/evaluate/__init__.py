"""How well a model detects: labelled pictures in, COCO's numbers out."""

from __future__ import annotations

import os
from pathlib import Path

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.coco import read_coco
from ssdrt.evaluate.data_set import DataSet, check_data_set
from ssdrt.evaluate.voc import read_voc
from ssdrt.evaluate.yolo import read_yolo


def read_data_set(annotations: str | os.PathLike[str], images: str | os.PathLike[str]) -> DataSet:
    """Read annotations, and check them and that their pictures are there.

    Parameters
    ----------
    annotations: a COCO json, or a folder of VOC's xml or YOLO's txt files; see `read_coco`, `read_voc`, `read_yolo`.
    images: the folder of the pictures; those without annotations are left out.

    Raises
    ------
    SourceError: what is wrong, and where.
    """
    labels, folder = Path(annotations), Path(images)
    if not folder.is_dir():
        raise SourceError(f"{shorten(str(folder))!r} is no folder: give the one that holds the annotated pictures")
    if not labels.is_dir():
        data = read_coco(labels, folder)
    elif any(labels.glob("*.xml")):
        data = read_voc(labels, folder)
    elif any(labels.glob("*.txt")):
        data = read_yolo(labels, folder)
    else:
        raise SourceError(f"{shorten(str(labels))!r} holds neither xml (VOC) nor txt files (YOLO)")
    check_data_set(data)
    return data
