"""Annotations of every kind: the boxes they say, and what is wrong with bad ones."""

import copy

import pytest
from PIL import Image

from ssdrt.demo import SHAPES
from ssdrt.errors import SourceError
from ssdrt.evaluate import read_data_set
from ssdrt.evaluate.data_set import only

VOC = """<annotation><filename>stale.jpg</filename><size><width>480</width><height>360</height></size>
<object><name>disc</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>60</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>480</xmax><ymax>360</ymax></bndbox></object></annotation>"""


def test_coco(photos, coco, write_coco):
    data = read_data_set(write_coco(coco), photos / "pictures")
    assert [(one.id, one.path.name, one.size) for one in data.pictures][::3] == [
        (10, "a.png", (480, 360)),
        (13, "grey.png", (80, 60)),
    ]
    assert data.categories == {1: "red", 2: "green", 3: "blue"}
    x0, y0, x1, y1 = SHAPES[0].box_xyxy
    assert data.annotations[0].box_xywh == (x0, y0, x1 - x0, y1 - y0)
    assert data.annotations[0].area == SHAPES[0].size ** 2
    assert [one.crowd for one in data.annotations] == [False] * 17 + [True]


def test_coco_pictures_are_found_without_the_folder_in_their_name(photos, coco, write_coco):
    content = copy.deepcopy(coco)
    for image in content["images"]:
        image["file_name"] = f"val2017/{image['file_name']}"
        del image["width"]
    content["annotations"][0].pop("area")
    data = read_data_set(write_coco(content), photos / "pictures")
    assert data.pictures[0].path == photos / "pictures" / "a.png"
    assert data.pictures[0].size is None
    assert data.annotations[0].area == SHAPES[0].size ** 2


def test_voc(photos, tmp_path):
    (tmp_path / "a.xml").write_text(VOC)
    (tmp_path / "grey.xml").write_text("<annotation><size><width>0</width><height>0</height></size></annotation>")
    data = read_data_set(tmp_path, photos / "pictures")
    assert [(one.path.name, one.size) for one in data.pictures] == [("a.png", (480, 360)), ("grey.png", None)]
    assert data.categories == {1: "cat", 2: "disc"}
    disc, cat = data.annotations
    assert (disc.category, disc.box_xywh, disc.area, disc.crowd) == (2, (10, 20, 20, 40), 800, False)
    assert (cat.category, cat.box_xywh, cat.crowd) == (1, (0, 0, 480, 360), True)
    assert not data.numbered


def test_yolo(photos, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("red\ngreen\n")
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.125 0.25 0.25 0.5\n")
    (tmp_path / "labels" / "grey.txt").write_text("")
    data = read_data_set(tmp_path / "labels", photos / "pictures")
    assert [(one.path.name, one.size) for one in data.pictures] == [("a.png", (480, 360)), ("grey.png", (80, 60))]
    assert data.categories == {1: "red", 2: "green"}
    assert [(one.category, one.box_xywh) for one in data.annotations] == [
        (2, (180, 90, 120, 180)),
        (1, (0, 0, 120, 180)),
    ]


def test_yolo_boxes_are_those_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "lying.jpg", exif=exif)
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "lying.txt").write_text("0 0.5 0.5 1 1\n")
    data = read_data_set(tmp_path, tmp_path)
    assert data.annotations[0].box_xywh == (0, 0, 20, 40)


def test_only_some_classes(photos, coco, write_coco):
    data = only(read_data_set(write_coco(coco), photos / "pictures"), ["blue", "2"])
    assert data.categories == {2: "green", 3: "blue"}
    assert data.annotated == [2, 3]
    assert len(data.pictures) == 4
    with pytest.raises(SourceError, match="no class 'purple'; they have green, blue"):
        only(data, ["purple"])


def remove(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def put(value, *path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("categories"), "no COCO file: it has no list of categories"),
        (remove("annotations", 1, "bbox"), r"annotations\[1\] has no 'bbox'"),
        (remove("categories", 2, "name"), r"categories\[2\] has no 'name'"),
        (put([1, 2, 3], "annotations", 0, "bbox"), r"annotations\[0\]: not enough values"),
        (put("x", "images", 0, "id"), r"images\[0\]: invalid literal"),
        (put(7, "images", 0), r"images\[0\]: 'int' object"),
        (put(5, "images", 0, "file_name"), r"images\[0\]: unsupported operand"),
        (put([], "annotations"), "4 pictures and no box: there is nothing to measure"),
        (put("no.png", "images", 1, "file_name"), r"1 of 4 pictures are not there.*no\.png"),
        (put(10, "images", 2, "id"), "1 of 4 pictures have the id of another"),
        (put(99, "annotations", 4, "image_id"), r"1 of 18 boxes belong to no picture.*annotation 5 of image 99"),
        (put(99, "annotations", 4, "category_id"), "1 of 18 boxes have a category_id that is not"),
        (put([1, 2, -3, 4], "annotations", 0, "bbox"), "1 of 18 boxes are not four finite numbers"),
        (put([1, 2, float("nan"), 4], "annotations", 0, "bbox"), "1 of 18 boxes are not four finite numbers"),
        (put([481.5, 2, 3, 4], "annotations", 0, "bbox"), "1 of 18 boxes lie outside their picture"),
    ],
)
def test_bad_coco(photos, coco, write_coco, change, words):
    content = copy.deepcopy(coco)
    change(content)
    with pytest.raises(SourceError, match=words):
        read_data_set(write_coco(content), photos / "pictures")


@pytest.mark.parametrize(("text", "words"), [("[]", "is it a file of results"), ("{", "is no json file")])
def test_no_coco(photos, tmp_path, text, words):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(SourceError, match=words):
        read_data_set(tmp_path / "instances.json", photos / "pictures")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "neither xml .* nor txt"),
        ({"a.xml": "<annotation>"}, "no xml file"),
        ({"a.xml": "<annotation><object/></annotation>"}, "object without a name"),
        ({"a.xml": "<annotation><object><name>x</name></object></annotation>"}, "x in a.xml has no box"),
        ({"a.xml": VOC, "z.xml": VOC}, r"1 of 2 label files have no picture .*z\.xml"),
        ({"a.txt": "0 0.5 0.5 1 1"}, "no classes.txt, and neither has the folder above"),
        ({"classes.txt": "cat", "a.txt": "0 0.5 0.5 1"}, "line 1 is not `class cx cy width height`"),
        ({"classes.txt": "cat", "a.txt": "\ncat 0.5 0.5 1 1"}, "line 2 is not"),
        ({"classes.txt": "cat", "a.txt": "1 0.5 0.5 1 1"}, r"category_id that is not .*a\.txt line 1"),
        ({"classes.txt": "cat", "a.txt": "0 7 0.5 1 1"}, "boxes lie outside their picture"),
    ],
)
def test_bad_folder(photos, tmp_path, files, words):
    (tmp_path / "labels").mkdir()
    for name, text in files.items():
        (tmp_path / "labels" / name).write_text(text)
    with pytest.raises(SourceError, match=words):
        read_data_set(tmp_path / "labels", photos / "pictures")


def test_two_pictures_for_one_label_file(tmp_path):
    (tmp_path / "a.xml").write_text(VOC)
    for suffix in ("jpg", "png"):
        Image.new("RGB", (480, 360)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(SourceError, match=r"several pictures for 'a\.xml'"):
        read_data_set(tmp_path, tmp_path)


def test_no_folder_of_pictures(photos, coco, write_coco):
    with pytest.raises(SourceError, match="is no folder"):
        read_data_set(write_coco(coco), photos / "names.txt")
