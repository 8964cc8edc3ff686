"""Data of the model person-hand: python bench/person_hand.py DATA OUT writes the sets it learns from and is judged on.

DATA holds coco_train, hands and raccoon, as docs/person-hand.md names their origins. OUT gets a folder of pictures and
a COCO json for each set: coco and hands to learn from, with the licences that a permissively licensed model can be
learnt from and no others; test_SOURCE of hands; raccoon_train and raccoon_test for the example of docs/train.md.
"""

import json
import shutil
import sys
from pathlib import Path

LICENCES = (4, 5, 7, 8)  # COCO's ids: BY, BY-SA, no known restrictions, United States government work
HANDS = ("subhih", "dwivedi", "asl", "ti1k")  # Apache-2.0, CC BY 4.0, public domain, MIT
PERSON, HAND = {"id": 1, "name": "person"}, {"id": 2, "name": "hand"}


def write(out, name, images, pictures, categories, annotations):
    """One set: OUT/name.json and the pictures in OUT/name."""
    (out / name).mkdir(parents=True, exist_ok=True)
    for image in images:
        shutil.copy(pictures / image["file_name"], out / name)
    ids = {image["id"] for image in images}
    kept = [one for one in annotations if one["image_id"] in ids]
    content = {
        "images": images,
        "categories": categories,
        "annotations": [{**one, "id": number} for number, one in enumerate(kept, 1)],
    }
    (out / f"{name}.json").write_text(json.dumps(content))
    print(f"{name}: {len(images)} pictures, {len(kept)} boxes")


def main(data, out):
    """Write all sets."""
    coco = json.loads((data / "coco_train" / "instances_person.json").read_text())
    # Hands are not labelled there. They belong to persons, so only inside persons nothing is said about them.
    rows = [row for one in coco["annotations"] for row in (one, {**one, "category_id": 2, "iscrowd": 1})]
    licensed = [image for image in coco["images"] if image["license"] in LICENCES]
    write(out, "coco", licensed, data / "coco_train" / "images", [PERSON, HAND], rows)
    for part in ("train", "test"):
        hands = json.loads((data / "hands" / part / "instances.json").read_text())
        rows = [{**one, "category_id": 2} for one in hands["annotations"]]
        sources = {"hands": HANDS} if part == "train" else {f"test_{s}": (s,) for s in ("ragadag", "subhih", "unipd")}
        for name, members in sources.items():
            images = [image for image in hands["images"] if image["source"] in members]
            write(out, name, images, data / "hands" / part / "images", [HAND], rows)
    raccoon = json.loads((data / "raccoon" / "instances.json").read_text())
    for part in ("train", "test"):
        images = [image for image in raccoon["images"] if image["split"] == part]
        write(
            out, f"raccoon_{part}", images, data / "raccoon" / "images", raccoon["categories"], raccoon["annotations"]
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
