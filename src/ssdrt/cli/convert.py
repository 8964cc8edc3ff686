"""`ssdrt convert`: a model as an ONNX, TensorFlow or UFF file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ssdrt.cli.options import add_model, positive
from ssdrt.cli.outputs import keep_inputs
from ssdrt.cli.table import table
from ssdrt.errors import SinkError

if TYPE_CHECKING:
    from ssdrt.model import SsdModel


OPSET = 17


def add_arguments(parser: ArgumentParser) -> None:
    """From which model, to which file, how much of it."""
    add_model(parser)
    parser.add_argument(
        "output", metavar="OUT", help="the file to write: .onnx, .pb for TensorFlow, or .uff for TensorRT 5 to 8.6"
    )
    parser.add_argument("--heads-only", action="store_true", help="end at the heads: no box decoding, scores and NMS")
    parser.add_argument("--opset", type=positive, metavar="N", help=f"ONNX opset, 11 to 22 (default: {OPSET})")
    parser.add_argument(
        "--for",
        dest="target",
        choices=("trt6", "trt8", "trt8.2"),
        help=".uff: TensorRT 5 and 6, or 7 to 8.6 (default: trt8); .onnx: trt8.2 writes what TensorRT 8.0 to 8.6 of "
        "JetPack 4.6 and 5 take, and the programs that build and run it there",
    )
    uff = parser.add_argument_group("for .uff")
    uff.add_argument(
        "--preprocessor",
        metavar="SCRIPT.py",
        help="your graphsurgeon script, run as it is (default: the surgery is derived from the graph)",
    )


def run(args: Namespace) -> int:
    """Write the file and say what goes into it and what comes out."""
    path = Path(args.output)
    writer = {".onnx": _write_onnx, ".pb": _write_pb, ".uff": _write_uff}.get(path.suffix.lower())
    if writer is None:
        raise SinkError(f"{str(path)!r}: give a name that ends in .onnx, .pb or .uff")
    for option, given, suffix in (
        ("--preprocessor", args.preprocessor, ".uff"),
        ("--heads-only", args.heads_only, ".onnx"),
        ("--opset", args.opset, ".onnx"),
        (f"--for {args.target}", args.target, ".onnx" if args.target == "trt8.2" else ".uff"),
    ):
        if given and path.suffix.lower() != suffix:
            raise SinkError(f"{option} is not for a {path.suffix}; it is for a {suffix}")
    if args.target == "trt8.2" and (args.heads_only or args.opset):
        raise SinkError("--for trt8.2 chooses the opset and the outputs itself; leave --opset and --heads-only out")
    keep_inputs(args, path)
    return writer(args, path)


def _write_pb(args: Namespace, path: Path) -> int:
    from ssdrt.cli.loading import load_model
    from ssdrt.export import write_frozen_graph
    from ssdrt.sinks.base import whole_file

    data = write_frozen_graph(load_model(args.model))
    with whole_file(path) as file:
        file.write(data)
    if not args.quiet:
        print(f"{path}: {len(data) / 1e6:.1f} MB, TensorFlow frozen graph; class names are not part of it")
    return 0


def _write_uff(args: Namespace, path: Path) -> int:
    from ssdrt.legacy.convert import convert_to_uff
    from ssdrt.zoo import model_path

    written = convert_to_uff(model_path(args.model), path, args.preprocessor, args.target or "trt8")
    if not args.quiet:
        print("\n".join(str(one) for one in written))
    return 0


def _write_onnx(args: Namespace, path: Path) -> int:
    from ssdrt.cli.loading import load_model
    from ssdrt.network.export import build_onnx
    from ssdrt.sinks.base import whole_file

    model = load_model(args.model)
    if args.target == "trt8.2":
        return _write_for_device(args, model, path)
    opset = args.opset or OPSET
    data = build_onnx(model, tail="heads" if args.heads_only else "detections", opset=opset)
    with whole_file(path) as file:
        file.write(data)
    if not args.quiet:
        print(f"{path}: {len(data) / 1e6:.1f} MB, ONNX opset {opset}")
        print(_ports(model, args.heads_only))
        resizer = model.preprocessing.resizer.value
        if resizer.kind != "fixed_shape" and not resizer.pad:
            print("The network's input size depends on the picture; this file is for pictures of 640x480.")
    return 0


def _write_for_device(args: Namespace, model: SsdModel, path: Path) -> int:
    from ssdrt.network.device import device_files
    from ssdrt.sinks.base import whole_file

    for name, content in device_files(model, path.stem).items():
        with whole_file(path.with_name(name)) as file:
            file.write(content)
        if not args.quiet:
            print(path.with_name(name))
    if not args.quiet:
        print(f"on the device: python3 onnx_engine.py build {path.name}")
    return 0


def _ports(model: SsdModel, heads_only: bool) -> str:
    """Name, type, shape and meaning of the file's inputs and outputs."""
    from ssdrt.network.tail import window_ports

    height, width = model.input_size
    method = model.preprocessing.resizer.value.method
    rows = [("inputs", "", "")]
    rows.append(("  image", f"uint8 (batch, {height}, {width}, 3)", f"RGB, resized ({method}), not normalised"))
    if not heads_only and window_ports(model, 1):
        meaning = "ymin, xmin, ymax, xmax of the picture's part of the padded input, 0..1"
        rows.append(("  window", "float32 (batch, 4)", meaning))
    rows += [("outputs", "", ""), *(_heads(model) if heads_only else _detections(model))]
    return table(rows, "lll")


def _heads(model: SsdModel) -> list[tuple[str, str, str]]:
    from ssdrt.cli.wording import in_words

    rows, classes, converter = len(model.anchors.value), model.num_classes.value, model.score_converter
    background = converter.background.value != "none"
    scales = in_words(model.box_coder.scales.value)
    first = ", column 0 is the background" if background else ""
    return [
        ("  box_encodings", f"float32 (batch, {rows}, 4)", f"ty, tx, th, tw; to be divided by {scales} and decoded"),
        (
            "  class_logits",
            f"float32 (batch, {rows}, {classes + background})",
            f"before {converter.function.value}{first}",
        ),
    ]


def _detections(model: SsdModel) -> list[tuple[str, str, str]]:
    total, first = model.nms.max_total.value, model.label_offset.value
    return [
        ("  detection_boxes", f"float32 (batch, {total}, 4)", "ymin, xmin, ymax, xmax, 0..1"),
        ("  detection_scores", f"float32 (batch, {total})", "best first; 0 from num_detections on"),
        ("  detection_classes", f"float32 (batch, {total})", f"class ids, counted from {first}"),
        ("  num_detections", "float32 (batch,)", "how many rows are detections"),
    ]
