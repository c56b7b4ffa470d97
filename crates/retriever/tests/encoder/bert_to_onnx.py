"""Writes a BERT as an ONNX model, as an export of it would look; one with a classifier gives its logits.

Usage: bert_to_onnx.py DIR FILE [CHANGE...]. DIR holds config.json and model.safetensors (F32). A change is one of
  without=NAME     leaves this input out (its value is then a constant)
  with=NAME        wants this input, too
  int32            inputs are of this type
  padded           positions are RoBERTa's: they begin behind the padding's id and do not count padding
  pooled           gives each text's first vector alone
  external=NAME    keeps the weights in this file beside FILE
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

PAD = 1


def weights(file):
    """Reads safetensors, by the names that a BERT without a head has."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, tensor in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__" or tensor["dtype"] != "F32":
            continue
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        numbers = np.frombuffer(data[begin:end], dtype="<f4").reshape(tensor["shape"])
        tensors[name.removeprefix("bert.")] = numbers
    return tensors


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, dtype=np.float32):
        name, value = f"c{len(self.constants)}", np.array(value, dtype=dtype)
        if dtype is np.int64:
            # As numbers and not as bytes, it stays within the network, where shapes have to be.
            kept = helper.make_tensor(name, TensorProto.INT64, value.shape, value.flatten())
        else:
            kept = numpy_helper.from_array(value, name)
        self.constants.append(kept)
        return name

    def add(self, kind, *inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, tensors, name, x):
        x = self.add("MatMul", x, self.constant(tensors[f"{name}.weight"].T))
        return self.add("Add", x, self.constant(tensors[f"{name}.bias"]))

    def norm(self, tensors, name, x, epsilon):
        scale, bias = (self.constant(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, x):
        erf = self.add("Erf", self.add("Div", x, self.constant(np.sqrt(2.0))))
        half = self.add("Mul", x, self.constant(0.5))
        return self.add("Mul", half, self.add("Add", erf, self.constant(1.0)))


def main(directory, file, changes):
    config = json.loads((directory / "config.json").read_text())
    tensors = weights(directory / "model.safetensors")
    options = dict(change.partition("=")[::2] for change in changes)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    epsilon, size = config["layer_norm_eps"], hidden // heads
    graph = Graph()

    kind = TensorProto.INT32 if "int32" in options else TensorProto.INT64
    names = ["input_ids", "attention_mask", "token_type_ids"]
    given = [name for name in names if name != options.get("without")]
    given += [options["with"]] if "with" in options else []
    inputs = [helper.make_tensor_value_info(name, kind, ["batch", "tokens"]) for name in given]
    wide = {name: graph.add("Cast", name, to=TensorProto.INT64) for name in given}
    ids = wide["input_ids"]
    shape = graph.add("Shape", ids)
    mask, types = (
        wide.get(name) or graph.add("Expand", graph.constant(value, np.int64), shape)
        for name, value in (("attention_mask", 1), ("token_type_ids", 0))
    )

    if "padded" in options:
        pad = graph.constant(PAD, np.int64)
        real = graph.add("Cast", graph.add("Not", graph.add("Equal", ids, pad)), to=TensorProto.INT64)
        counted = graph.add("CumSum", real, graph.constant(1, np.int64))
        positions = graph.add("Add", graph.add("Mul", counted, real), pad)
    else:
        ones = graph.add("Expand", graph.constant(1, np.int64), shape)
        counted = graph.add("CumSum", ones, graph.constant(1, np.int64))
        positions = graph.add("Sub", counted, graph.constant(1, np.int64))
    x = None
    for name, at in (("word", ids), ("position", positions), ("token_type", types)):
        table = graph.constant(tensors[f"embeddings.{name}_embeddings.weight"])
        rows = graph.add("Gather", table, at)
        x = rows if x is None else graph.add("Add", x, rows)
    x = graph.norm(tensors, "embeddings.LayerNorm", x, epsilon)

    mask = graph.add("Unsqueeze", mask, graph.constant([1, 2], np.int64))
    hides = graph.add("Sub", graph.constant(1.0), graph.add("Cast", mask, to=TensorProto.FLOAT))
    hides = graph.add("Mul", hides, graph.constant(np.finfo(np.float32).min))
    apart = graph.constant([0, 0, heads, size], np.int64)
    joined = graph.constant([0, 0, hidden], np.int64)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            graph.add("Reshape", graph.linear(tensors, f"{layer}.attention.self.{part}", x), apart)
            for part in ("query", "key", "value")
        )
        query, value = (graph.add("Transpose", one, perm=[0, 2, 1, 3]) for one in (query, value))
        scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 3, 1]))
        scores = graph.add("Div", scores, graph.constant(np.sqrt(size)))
        looked = graph.add("Softmax", graph.add("Add", scores, hides), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", looked, value), perm=[0, 2, 1, 3])
        mixed = graph.add("Reshape", mixed, joined)
        mixed = graph.linear(tensors, f"{layer}.attention.output.dense", mixed)
        x = graph.norm(tensors, f"{layer}.attention.output.LayerNorm", graph.add("Add", mixed, x), epsilon)
        inner = graph.gelu(graph.linear(tensors, f"{layer}.intermediate.dense", x))
        inner = graph.linear(tensors, f"{layer}.output.dense", inner)
        x = graph.norm(tensors, f"{layer}.output.LayerNorm", graph.add("Add", inner, x), epsilon)

    name, shape = "last_hidden_state", ["batch", "tokens", hidden]
    if "classifier.weight" in tensors:
        first = graph.add("Gather", x, graph.constant(0, np.int64), axis=1)
        pooled = graph.add("Tanh", graph.linear(tensors, "pooler.dense", first))
        x = graph.linear(tensors, "classifier", pooled)
        name, shape = "logits", ["batch", len(tensors["classifier.bias"])]
    if "pooled" in options:
        x = graph.add("Gather", x, graph.constant(0, np.int64), axis=1)
        name, shape = "sentence_embedding", ["batch", hidden]
    graph.nodes.append(helper.make_node("Identity", [x], [name]))
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(graph.nodes, "bert", inputs, [output], graph.constants)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    external = options.get("external")
    save(model, file, save_as_external_data=bool(external), location=external, size_threshold=0)


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
