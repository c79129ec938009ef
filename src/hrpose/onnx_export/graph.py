"""A PyTorch module to the bytes of an ONNX file."""

import json
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hrpose.network.folded import FOLDED_KEY, folded_names

# What docs/guide/deploy.md promises.
OPSET = 18
# Shorter tensors (biases, constants) are kept as they are: halving them would save nothing.
_WORTH_HALVING = 256


def to_onnx(
    model: nn.Module,
    example: Tensor,
    *,
    network: nn.Module,
    input_name: str,
    output_names: list[str],
    dynamic: Mapping[int, Any],
) -> onnx.ModelProto:
    """The graph of `model`, checked. `dynamic`: the dimensions that are free.

    Its metadata say which of its tensors are the convolutions' of `network`, a part of it.
    """
    with warnings.catch_warnings():
        # The exporter warns of its own insides; what counts is compared afterwards.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=output_names,
            dynamic_shapes={input_name: dict(dynamic)},
        )
    assert program is not None
    proto = program.model_proto
    # Notes of the exporter (stack traces with paths of this machine) have no business in a file
    # that is passed on.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for initializer in proto.graph.initializer:
        del initializer.metadata_props[:]
    del proto.graph.metadata_props[:]
    names = json.dumps(folded_names(network, proto.graph))
    helper.set_model_props(proto, {FOLDED_KEY: names})
    onnx.checker.check_model(proto)
    return proto


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights stored as float16, and cast to float32 where they are used.

    It computes in float32 as before, with weights rounded to 11 bits; ONNX Runtime casts once,
    when it loads the file, which is about half as large.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for initializer in half.graph.initializer:
        weights = numpy_helper.to_array(initializer)
        if weights.dtype != np.float32 or weights.size < _WORTH_HALVING:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    onnx.checker.check_model(half)
    return half


def smooth_pictures(batch: int, height: int, width: int) -> Tensor:
    """Random uint8 pictures (n, h, w, 3) to compare with: noise alone leaves every heatmap near
    zero and proves little.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (batch, 3, 8, 6)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()
