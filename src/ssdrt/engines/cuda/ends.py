"""The launches around a network, ours or another's: pictures in, scores or detections out. No GPU is needed."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_longlong, c_void_p
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import Builder, DividerStruct, Launch, divider
from ssdrt.model import Floats, SsdModel
from ssdrt.postprocess import NmsParameters

CAPACITY = 2048  # of tail.cu: candidates of a list
BINS = 2048  # that count them by score
COLLECTORS, THREADS = 256, 512  # of a block of `collect`, of `tail`
SHARED = (
    16384 + 8192 + 8192 + 2 * 1024 + 4096 + 128 + 32 + 16384 + 2048 + 24 + 64 + 16 + 16 + 16
)  # its `Shared`, rounded up
AHEAD = (1, 4)  # units that a thread of `collect` reads at once: for few pictures, and for MANY
MANY = 32
OPERATIONS = {"mul": 0, "add": 1, "sub": 2, "div": 3}
CLIPS = {"never": 0, "before": 1, "after": 2}

MOST = 100
"""Room for detections of a picture, where the graph itself keeps fewer."""

MAPPED = 4
"""Pictures up to which detections are written straight into the host's memory."""


class PictureStruct(ctypes.Structure):
    """`Picture` of image.cu."""

    _fields_ = (
        ("pixels", c_void_p),
        *((name, c_int) for name in ("height", "width", "new_height", "new_width")),
        *((name, c_float) for name in ("scale_y", "scale_x")),
    )


class ImageStruct(ctypes.Structure):
    """`Image` of image.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "pictures", "target")),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("work", "width", "target_stride", "operations")),
        ("codes", c_int * 4),
        ("operands", c_float * 3 * 4),
        ("filling", c_float * 3),
        ("shift", c_float),
        ("rounding", c_float),
        ("nearest", c_int),
        *((name, DividerStruct) for name in ("of_image", "of_row")),
    )


class FetchStruct(ctypes.Structure):
    """`Fetch` of image.cu."""

    _fields_ = (("source", c_void_p), ("target", c_void_p), ("count", c_longlong))


class OptionsStruct(ctypes.Structure):
    """`Options` of tail.cu."""

    _fields_ = (
        *((name, c_float) for name in ("iou_threshold", "low_score", "low_logit")),
        *((name, c_int) for name in ("max_per_class", "max_total")),
        ("unused", c_int * 3),
    )


class TailStruct(ctypes.Structure):
    """`Tail` of tail.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("logits", "codes", "scores", "anchors", "thresholds", "options", "windows")),
        *((name, c_void_p) for name in ("lists", "counts", "histograms", "found")),
        *((name, c_longlong) for name in ("logits_image", "codes_image")),
        *((name, c_int) for name in ("anchor_count", "classes", "row", "box_row")),
        *((name, c_int) for name in ("most", "found_size", "clip", "drop_zero_area", "change_frame", "unused")),
        ("scales", c_float * 4),
        *((name, DividerStruct) for name in ("of_units", "of_anchors")),
    )


class ScoresStruct(ctypes.Structure):
    """`Scores` of tail.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("logits", "codes", "scores", "boxes")),
        *((name, c_longlong) for name in ("logits_image", "codes_image")),
        *((name, c_int) for name in ("anchors", "anchor_count", "columns", "skipped", "row", "box_row")),
        ("of_image", DividerStruct),
    )


Source = Literal["floats", "pictures"]


def image_kernel(source: Source) -> tuple[str, str]:
    """What makes the network's input."""
    return ("image.cu", {"floats": "read_image<false>", "pictures": "resize_image"}[source])


def image(build: Builder, model: SsdModel, source: Source, address: int) -> Launch:
    """The network's input from floats (batch, height, width, 3), or from a table of `PictureStruct`s, at `address`."""
    view, batch = build.plan.image, build.batch
    resizer, operations = model.preprocessing.resizer.value, model.preprocessing.normalisation.value
    parameters = ImageStruct(
        target=build.address(view), target_image=build.image(view), work=batch * view.height * view.width,
        width=view.width, target_stride=view.stride, operations=len(operations),
        nearest=int(resizer.method == "nearest"), shift=0.5 if resizer.half_pixel_centers else 0.0,
        rounding=0.5 if resizer.align_corners else 0.0,
        of_image=divider(view.height * view.width), of_row=divider(view.width),
    )  # fmt: skip
    if source == "floats":
        parameters.source = address
    else:
        parameters.pictures = address
    for index, one in enumerate(operations):
        parameters.codes[index] = OPERATIONS[one.operation]
        for channel, value in enumerate(np.broadcast_to(one.operand, 3)):
            parameters.operands[index][channel] = value
    for channel in range(3):
        parameters.filling[channel] = resizer.pad_value[channel]
    file, name = image_kernel(source)
    return Launch(file, name, (-(-parameters.work // 256), 1), 256, parameters, step="input")


def fetch(source: int, target: int, count: int) -> Launch:
    """From the host's staging memory to the GPU's, `count` pieces of 16 bytes."""
    return Launch("image.cu", "fetch", (-(-count // 256), 1), 256, FetchStruct(source, target, count), step="fetch")


def scores_kernel(model: SsdModel) -> tuple[str, str]:
    """What makes scores of logits."""
    return ("tail.cu", f"scores<{('sigmoid', 'identity', 'softmax').index(model.score_converter.function.value)}>")


def scores(build: Builder, model: SsdModel, scores_at: int, boxes_at: int | None) -> Launch:
    """Scores (batch, anchors, classes) float32 to one address, box codes (batch, anchors, 4) to the other if wanted."""
    head = build.plan.head
    logits, codes = _head_addresses(build)
    parameters = ScoresStruct(
        logits=logits, codes=codes, scores=scores_at, boxes=boxes_at,
        logits_image=build.plan.buffers[head.logits_buffer], codes_image=build.plan.buffers[head.boxes_buffer],
        anchors=build.batch * head.anchors, anchor_count=head.anchors, columns=head.columns,
        skipped=head.columns - model.num_classes.value, row=head.row, box_row=head.box_row,
        of_image=divider(head.anchors),
    )  # fmt: skip
    file, name = scores_kernel(model)
    return Launch(file, name, (-(-parameters.anchors // 8), 1), 256, parameters, step="scores")


Form = Literal["logits", "scores", "wide scores"]
"""What detections are made of: fp16 logits and box codes; scores and fp16 box codes; scores and float32 box codes."""


def tail_kernels(model: SsdModel) -> tuple[tuple[str, str], ...]:
    """What lists candidates and decides on them; and, first, what makes scores where those need a whole row."""
    if needs_scores(model):
        return (scores_kernel(model), *suppression_kernels(model, "scores"))
    return suppression_kernels(model, "logits")


def needs_scores(model: SsdModel) -> bool:
    """Whether a score depends on more than its logit."""
    return model.score_converter.function.value == "softmax"


def suppression_kernels(model: SsdModel, form: Form) -> tuple[tuple[str, str], ...]:
    """`collect` for few pictures and for MANY, and `tail`."""
    limited = model.score_converter.function.value != "identity"
    source = (0 if limited else 1) if form == "logits" else (2 if limited else 3)  # as tail.cu numbers them
    kind = f"{source},{'true' if model.nms.class_agnostic.value else 'false'}"
    codes = ",float" if form == "wide scores" else ""
    return (*(("tail.cu", f"collect<{kind},{ahead}>") for ahead in AHEAD), ("tail.cu", f"tail<{kind}{codes}>"))


def tail(build: Builder, model: SsdModel, places: dict[str, int], most: int) -> list[Launch]:
    """From the head's buffers to detections.

    Parameters
    ----------
    places: addresses of `scores`, `options`, `thresholds`, `windows`, `lists`, `counts`, `histograms`, `found`.
    most: detections of a picture that `found` has room for.
    """
    head = build.plan.head
    logits, codes = _head_addresses(build)
    heads = Heads(
        "scores" if needs_scores(model) else "logits", logits, codes, build.plan.buffers[head.logits_buffer],
        build.plan.buffers[head.boxes_buffer], head.row, head.box_row,
    )  # fmt: skip
    places = {**places, "anchors": build.constant("anchors", lambda: centred(model.anchors.value))}
    launches = suppression(model, build.batch, heads, places, most)
    return [scores(build, model, places.get("scores", 0), None), *launches] if needs_scores(model) else launches


@dataclass(frozen=True)
class Heads:
    """Where predictions lie: addresses of logits (0 where scores are at hand) and box codes; numbers from one picture
    to the next, and from one anchor to the next."""

    form: Form
    logits: int
    codes: int
    logits_image: int
    codes_image: int
    row: int
    box_row: int


def suppression(model: SsdModel, batch: int, heads: Heads, places: dict[str, int], most: int) -> list[Launch]:
    """From predictions to detections; `places` as for `tail`, and `anchors`, those of `centred`.

    Scores are (batch, anchors, classes), and lie in whole pieces of 32 bytes.
    """
    nms, classes, count = model.nms, model.num_classes.value, len(model.anchors.value)
    units = -(-classes // 8)
    parameters = TailStruct(
        logits=heads.logits, codes=heads.codes, **places,
        logits_image=heads.logits_image, codes_image=heads.codes_image,
        anchor_count=count, classes=classes, row=heads.row, box_row=heads.box_row,
        most=most, found_size=found_size(most),
        clip=CLIPS[nms.clip.value], drop_zero_area=int(nms.drop_zero_area.value),
        change_frame=int(nms.change_coordinate_frame.value),
        scales=(c_float * 4)(*model.box_coder.scales.value),
        of_units=divider(units if heads.form == "logits" else classes), of_anchors=divider(count),
    )  # fmt: skip
    work = count * (1 if nms.class_agnostic.value else units)
    many = batch >= MANY
    *collectors, (_, decide) = suppression_kernels(model, heads.form)
    file, collect = collectors[many]
    blocks = min(-(-work // (COLLECTORS * AHEAD[many])), 512)
    return [
        Launch(file, collect, (blocks, batch), COLLECTORS, parameters, step="candidates"),
        Launch(file, decide, (batch, 1), THREADS, parameters, SHARED + 4 * classes, step="suppression"),
    ]


Kind = tuple[bool, str, bool, bool]
"""What of a suppression is in the launches: class_agnostic, clip, drop_zero_area, change_coordinate_frame."""


def kind_of(model: SsdModel) -> Kind:
    """That of the graph."""
    nms = model.nms
    return nms.class_agnostic.value, nms.clip.value, nms.drop_zero_area.value, nms.change_coordinate_frame.value


def decides(kind: Kind, most: int, parameters: NmsParameters) -> bool:
    """Whether launches of a kind, with room for `most` detections, do this suppression; all else of it may change."""
    asked = (parameters.class_agnostic, parameters.clip, parameters.drop_zero_area, parameters.change_coordinate_frame)
    fits = 0 < parameters.max_total <= most and parameters.max_per_class > 0
    return asked == kind and fits and parameters.soft_nms_sigma == 0


def _head_addresses(build: Builder) -> tuple[int, int]:
    head, slots, slot_of = build.plan.head, build.memory.slots, build.plan.slot_of
    return slots[slot_of[head.logits_buffer]], slots[slot_of[head.boxes_buffer]] + 2 * head.box_offset


def centred(anchors_yxyx: Floats) -> Floats:
    """(n, 4) centre y, centre x, height, width, as `postprocess.decode_boxes` computes them."""
    sizes = anchors_yxyx[:, 2:] - anchors_yxyx[:, :2]
    return np.concatenate((anchors_yxyx[:, :2] + sizes / 2, sizes), axis=1).astype(np.float32)


def low_logit(model: SsdModel, score: float) -> float:
    """A logit that no candidate with a score above `score` lies below; sloppy by more than fp32 rounds."""
    if model.score_converter.function.value != "sigmoid":
        return score
    if score <= 1e-30:
        return -np.inf
    if score >= 1:
        return np.inf
    exact = float(np.log(score) - np.log1p(-score))
    return exact - 1e-3 * (1 + abs(exact))


def room_of(model: SsdModel) -> int:
    """Detections of a picture that there is room for."""
    return max(MOST, model.nms.max_total.value)


def found_size(most: int) -> int:
    """float32 numbers of one picture's detections, in whole 16-byte pieces; the last two are count and status."""
    return -(-(6 * most + 2) // 4) * 4


def read_found(found: Floats, most: int) -> tuple[Floats, Floats, NDArray[np.int64], bool]:
    """(boxes, scores, classes, whether they are complete) of one picture's numbers."""
    count, status = int(found[-2]), int(found[-1])
    boxes = found[: 4 * count].reshape(-1, 4).copy()
    kept, classes = found[4 * most : 4 * most + count].copy(), found[5 * most : 5 * most + count].astype(np.int64)
    return boxes, kept, classes, status == 0


def plan_kernels(model: SsdModel) -> list[tuple[str, str]]:
    """The kernels around the network."""
    return [
        image_kernel("floats"),
        image_kernel("pictures"),
        scores_kernel(model),
        *tail_kernels(model),
        ("image.cu", "fetch"),
    ]
