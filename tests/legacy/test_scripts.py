"""Scripts in the shapes that are published, on the demo graph: run as they are, imports and all."""

import importlib.util
import sys

import numpy as np
import pytest

from build import const, demo_file, demo_graph, node
from legacy.detecting import detect
from ssdrt.compare import EXACT, difference
from ssdrt.demo import COLOURS, DemoOptions, demo_picture
from ssdrt.engines import reference
from ssdrt.errors import ModelError
from ssdrt.graph.writer import NodeSpec, Shape, write_graph
from ssdrt.legacy.advice import problems
from ssdrt.legacy.binary import read_uff
from ssdrt.legacy.convert import convert_to_uff
from ssdrt.legacy.scripts import convert_with_script
from ssdrt.legacy.uff import checked_nodes, constant
from ssdrt.pipeline import detect_picture, graph_parameters
from ssdrt.recover import recover

SQUARE = DemoOptions(input_size=(128, 128), colours=tuple(COLOURS))

PLUGINS = """
import numpy as np
import tensorflow as tf
import tensorrt as trt
import graphsurgeon as gs

Input = gs.create_plugin_node(name="Input", op="Placeholder", dtype=tf.float32, shape=[1, 3, 128, 128])
PriorBox = gs.create_plugin_node(
    name="GridAnchor", op="GridAnchor_TRT", numLayers=2, minSize=0.25, maxSize=0.5,
    aspectRatios=[1.0, 2.0, 0.5, 3.0, 0.33], variance=[0.1, 0.1, 0.2, 0.2], featureMapShapes=[16, 8])
NMS = gs.create_plugin_node(
    name="NMS", op="NMS_TRT", shareLocation=1, varianceEncodedInTarget=0, backgroundLabelId=0, confidenceThreshold=1e-8,
    nmsThreshold=0.6, topK=1000, keepTopK=20, numClasses=7, inputOrder=[0, 2, 1], confSigmoid=1, isNormalized=1)
concat_priorbox = gs.create_node("concat_priorbox", op="ConcatV2", axis=2)
if trt.__version__[0] >= "7":
    concat_box_loc = gs.create_plugin_node("concat_box_loc", op="FlattenConcat_TRT", axis=1, ignoreBatch=0)
    concat_box_conf = gs.create_plugin_node("concat_box_conf", op="FlattenConcat_TRT", axis=1, ignoreBatch=0)
else:
    concat_box_loc = gs.create_plugin_node("concat_box_loc", op="FlattenConcat_TRT")
    concat_box_conf = gs.create_plugin_node("concat_box_conf", op="FlattenConcat_TRT")

namespace_map = {
    "MultipleGridAnchorGenerator": PriorBox, "Postprocessor": NMS, "Preprocessor": Input, "Cast": Input,
    "image_tensor": Input, "MultipleGridAnchorGenerator/Concatenate": concat_priorbox, "Concatenate": concat_priorbox,
    "concat": concat_box_loc, "concat_1": concat_box_conf}

def clean(graph):
    for node in graph.find_nodes_by_op("AddV2"):
        gs.update_node(node, op="Add")
    for node in graph.find_nodes_by_op("FusedBatchNormV3"):
        gs.update_node(node, op="FusedBatchNorm")
    if "image_tensor:0" in graph.find_nodes_by_name("Input")[0].input:
        graph.find_nodes_by_name("Input")[0].input.remove("image_tensor:0")
    if "Input" in graph.find_nodes_by_name("NMS")[0].input:
        graph.find_nodes_by_name("NMS")[0].input.remove("Input")
    if len(graph.find_nodes_by_op("GridAnchor_TRT")[0].input) < 1:
        graph.append(gs.create_node("AnchorInput", op="Const", value=np.array([1, 1], dtype=np.float32)))
        graph.find_nodes_by_op("GridAnchor_TRT")[0].input.insert(0, "AnchorInput")
    if "NMS" not in [node.name for node in graph.graph_outputs]:
        graph.remove(graph.graph_outputs, remove_exclusive_dependencies=False)
"""

PREPROCESS = """
def preprocess(dynamic_graph):
    dynamic_graph.forward_inputs(dynamic_graph.find_nodes_by_op("Identity"))
    dynamic_graph.collapse_namespaces(namespace_map)
    clean(dynamic_graph)
"""

ADD_PLUGIN = """
path = "frozen_inference_graph.pb"
TRTbin = "TRT_demo.bin"
output_name = ["NMS"]
dims = [3, 128, 128]

def add_plugin(graph):
    graph.remove(graph.find_nodes_by_op("Assert"), remove_exclusive_dependencies=True)
    graph.forward_inputs(graph.find_nodes_by_op("Identity"))
    graph.collapse_namespaces(namespace_map)
    clean(graph)
    return graph
"""

WITH_SPECS = (
    ADD_PLUGIN.replace("add_plugin(graph)", "add_plugin(graph, model, spec)")
    + """
MODEL_SPECS = {"frozen_inference": {"num_classes": 7}}
assert __name__ != "__main__"
"""
)

OLDEST = """
def preprocess(dynamic_graph):
    dynamic_graph.remove(["detection_boxes", "detection_scores", "detection_classes", "num_detections"])
    dynamic_graph.collapse_namespaces(namespace_map, unique_inputs=True)
    dynamic_graph.remove(dynamic_graph.graph_outputs, remove_exclusive_dependencies=False)
    nms = dynamic_graph.find_nodes_by_op("NMS_TRT")[0]
    if "Input" in nms.input:
        nms.input.remove("Input")
    if "image_tensor:0" in dynamic_graph.node_map["Input"].input:
        dynamic_graph.node_map["Input"].input.remove("image_tensor:0")
"""

BUILDER = """
import argparse, ctypes, os
import uff

TRT_LOGGER = trt.Logger(trt.Logger.INFO)
trt.init_libnvinfer_plugins(TRT_LOGGER, "")
runtime = trt.Runtime(TRT_LOGGER)
path = os.path.join(os.path.dirname(__file__), "model", "frozen_inference_graph.pb")
TRTbin, output_name, dims, layout = "TRT_%s.bin" % os.path.basename(path), ["NMS"], [3, 128, 128], 7
MODEL_SPECS = {"ssd": {}, "frozen_inference": {"num_classes": 7, "order": [0, 2, 1], "sizes": (0.25, 0.5)}}

def without_squeeze(graph):
    graph.forward_inputs(graph.find_node_inputs_by_name(graph.node_map["NMS"], "Squeeze"))
    return graph

def add_plugin(graph, model, spec):
    assert model == "frozen_inference"
    gs.update_node(NMS, trt_plugin=True, numClasses=spec["num_classes"], inputOrder=spec["order"])
    PriorBox.attr["minSize_u_float"].f, PriorBox.attr["maxSize_u_float"].f = spec["sizes"]
    graph.forward_inputs(graph.find_nodes_by_op("Identity"))
    graph.collapse_namespaces(namespace_map)
    clean(graph)
    return without_squeeze(graph)

def main():
    graph = add_plugin(gs.DynamicGraph(path), argparse.ArgumentParser().parse_args(), MODEL_SPECS["ssd"])
    uff.from_tensorflow(graph.as_graph_def(), output_nodes=output_name, output_filename=TRTbin, text=True)

if __name__ == "__main__":
    main()
"""

GIST = """
import tensorflow.compat.v1 as tf

def constant(name, values):
    node = tf.NodeDef()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values, dtype=tf.float32, shape=[len(values)]))
    return node

def preprocess(graph):
    graph.remove(graph.find_nodes_by_name(["detection_.*", "num_detections"]), remove_exclusive_dependencies=False)
    graph.remove([n for n in graph.graph_outputs if n.op.startswith("Add")], remove_exclusive_dependencies=True)
    graph.forward_inputs(graph.find_nodes_by_op(["Identity", "StopGradient"]))
    inside = ("Preprocessor", "image_tensor", "Cast", "Postprocessor")
    graph.collapse_namespaces({key: namespace_map[key] for key in inside})
    graph.collapse_namespaces({key: new for key, new in namespace_map.items() if key not in inside}, exclude_nodes=[])
    (nms,) = graph.find_nodes_by_name("NMS")
    for squeeze in graph.find_node_inputs_by_name(nms, "Squeeze.*"):
        graph.forward_inputs([squeeze])
    while "Input" in nms.input:
        nms.input.remove("Input")
    del Input.input[:]
    gs.update_node(NMS, trt_plugin=True, numClasses=np.int64(7), confSigmoid=True, inputOrder=(0, 2, 1))
    graph.append(constant("one", [1.0, 1.0]))
    PriorBox.input[:] = []
    PriorBox.input.append("one")
    for node in graph.find_nodes_by_op("AddV2"):
        node.op = "Add"
    print("NMS reads", ", ".join(str(i) for i in nms.input), "of", len(graph.as_graph_def().node), "nodes")
"""

SHAPES = {"preprocess": PREPROCESS, "add_plugin": ADD_PLUGIN, "specs": WITH_SPECS, "oldest": OLDEST, "builder": BUILDER,
          "gist": GIST}  # fmt: skip


@pytest.fixture
def graph_file(tmp_path):
    return demo_file(tmp_path, SQUARE)


def script(folder, *parts):
    path = folder / "config.py"
    path.write_text("".join(parts))
    return path


@pytest.mark.parametrize("kind", SHAPES.values(), ids=SHAPES)
def test_a_script_makes_a_detector_that_finds_the_same(tmp_path, graph_file, kind):
    uff = convert_with_script(graph_file, script(tmp_path, PLUGINS, kind), "trt8")
    nodes = checked_nodes(uff)
    assert {"Input", "NMS", "GridAnchor", "concat_priorbox", "concat_box_loc", "concat_box_conf"} <= set(nodes)
    assert nodes["MarkOutput_0"].inputs == ("NMS",)
    assert {key: data.value for key, data in nodes["concat_box_loc"].fields.items()} == {
        "dtype": 0x20020,
        "axis_u_int": 1,
        "ignoreBatch_u_int": 0,
    }
    model = recover(demo_graph(SQUARE))
    engine = reference.load(model, b"", "fp32", 1)
    picture = demo_picture()
    expected = detect_picture(model, engine, picture, graph_parameters(model), model.labels.value)
    assert difference(expected[expected.scores > 0.3], detect(uff, picture)).within(EXACT)


def test_constants_are_changed_and_made_as_protobufs_are(tmp_path):
    graph = node("ConcatV2", "c", "image", "image", "axis"), node("Add", "a", "c", "w")
    path = tmp_path / "g.pb"
    image = NodeSpec("image", "Placeholder", (), {"dtype": "float32", "shape": Shape((1, 4, 4, 3))})
    path.write_bytes(write_graph((image, const("axis", 3, "int32"), const("w", [1.0, 2.0]), *graph)))
    text = """
import tensorflow as tf
def preprocess(graph):
    graph.find_nodes_by_path("axis")[0].attr["value"].tensor.int_val[0] = 2
    w = graph.node_map["w"]
    w.attr.clear()
    w.attr["dtype"].CopyFrom(tf.AttrValue(type=tf.float32.as_datatype_enum))
    w.attr["value"].CopyFrom(tf.AttrValue(tensor=tf.make_tensor_proto([3.0], shape=[1, 2])))
"""
    uff = convert_with_script(path, script(tmp_path, text), "trt8")
    nodes = checked_nodes(uff)
    assert nodes["c"].fields["axis"].value == 2
    assert constant(uff, nodes["w"]).tolist() == [[3.0, 3.0]]
    assert constant(uff, nodes["w"]).dtype == np.float32


def test_the_script_is_told_the_version_it_is_for(tmp_path, graph_file):
    uff = convert_with_script(graph_file, script(tmp_path, PLUGINS, PREPROCESS), "trt6")
    assert set(checked_nodes(uff)["concat_box_loc"].fields) == {"dtype"}


def test_what_is_served_is_gone_afterwards(tmp_path, graph_file):
    before = {name: sys.modules.get(name) for name in ("graphsurgeon", "uff", "tensorrt", "tensorflow")}
    convert_with_script(graph_file, script(tmp_path, PLUGINS, PREPROCESS), "trt8")
    assert {name: sys.modules.get(name) for name in before} == before
    assert str(tmp_path) not in sys.path
    assert importlib.util.find_spec("graphsurgeon") is None


def test_a_script_may_convert_by_itself(tmp_path, graph_file):
    main = f"""
import uff
def preprocess(graph):
    pass
data = uff.from_tensorflow_frozen_model({str(graph_file)!r}, ["concat"], output_filename={str(tmp_path / "o.uff")!r},
                                        text=True, quiet=True)
"""
    convert_with_script(graph_file, script(tmp_path, main), "trt8")
    assert read_uff(tmp_path / "o.uff").nodes[-1].inputs == ("concat",)
    assert read_uff(tmp_path / "o.pbtxt").nodes == read_uff(tmp_path / "o.uff").nodes


def test_a_wrong_order_of_inputs_is_said(tmp_path, graph_file):
    text = PLUGINS.replace("[0, 2, 1]", "[2, 0, 1]")
    uff = convert_with_script(graph_file, script(tmp_path, text, PREPROCESS), "trt8")
    assert "inputOrder is [2, 0, 1], and the inputs stand as [0, 2, 1]" in problems(uff)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines neither preprocess"),
        ("def preprocess(graph):\n    graph.nothing()", "line 2: AttributeError"),
        ("def preprocess(graph:", "line 1: SyntaxError"),
        ("def preprocess(graph):\n    graph.remove('gone')", "no such node"),
        ("def add_plugin(graph, model, spec): pass", "it has no MODEL_SPECS"),
        ("import pycuda.driver", "ModuleNotFoundError"),
    ],
)
def test_a_script_that_fails_is_named_with_its_line(tmp_path, graph_file, text, message):
    with pytest.raises(ModelError if "gone" not in text else Exception, match=message) as caught:
        convert_with_script(graph_file, script(tmp_path, text), "trt8")
    assert "config.py" in str(caught.value)


def test_converting_writes_what_the_device_needs(tmp_path, graph_file):
    names = ["model.uff", "model.pbtxt", "model.json", "build_engine.py", "detect.py", "JETSON.txt"]
    for preprocessor in (None, script(tmp_path, PLUGINS, PREPROCESS)):
        out = tmp_path / str(preprocessor is None)
        out.mkdir()
        assert [path.name for path in convert_to_uff(graph_file, out / "model.uff", preprocessor)] == names
        assert sorted(path.name for path in out.iterdir()) == sorted(names)
        assert np.array_equal(
            [n.id for n in read_uff(out / "model.uff").nodes], [n.id for n in read_uff(out / "model.pbtxt").nodes]
        )


def test_a_file_of_the_user_is_not_replaced(tmp_path, graph_file, caplog):
    (tmp_path / "detect.py").write_text("mine")
    written = convert_to_uff(graph_file, tmp_path / "model.uff")
    assert (tmp_path / "detect.py").read_text() == "mine"
    assert tmp_path / "detect.py" not in written
    assert "left as it is" in caplog.text
