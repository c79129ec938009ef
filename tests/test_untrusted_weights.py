"""Weights of strangers in every command that takes weights: one line or results, no traceback."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save
from typer.testing import CliRunner

import refusals
from conftest import ROOT
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.evaluation.parity import comparisons
from hrpose.evaluation.parity.comparisons import Certificate
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.serve import server
from hrpose.session import open_session
from hrpose.synthetic import write_dataset
from hrpose.weights import hub
from tiny_detectors import write_detector
from tiny_weights import METADATA, write_tiny_weights

W, H = METADATA.input_wh
K = len(METADATA.skeleton)


def graph(
    path: Path,
    output: np.ndarray | None = None,
    *,
    name: str = "heatmaps",
    input_type: int = TensorProto.UINT8,
    inputs: Sequence[str] = ("crops",),
    shape: Sequence[Any] = ("n", H, W, 3),
    nodes: Sequence[Any] = (),
    metadata: Any = METADATA,
) -> Path:
    """A network with metadata of hrpose that gives `output`, whatever enters."""
    nodes = list(nodes)
    if output is not None:
        constant = numpy_helper.from_array(output, "c")
        nodes = [helper.make_node("Constant", [], [name], value=constant)]
    infos = [helper.make_tensor_value_info(i, input_type, list(shape)) for i in inputs]
    kind = TensorProto.FLOAT if output is None else helper.np_dtype_to_tensor_dtype(output.dtype)
    outputs = [helper.make_tensor_value_info(name, kind, None)]
    made = helper.make_graph(nodes, "g", infos, outputs)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {metadata.keys[0]: metadata.to_json()})
    path.write_bytes(model.SerializeToString())
    return path


def maps(*shape: int, value: float = 0.5, dtype: Any = np.float32) -> np.ndarray:
    return np.full(shape, value, dtype)


def fails_when_run(path: Path) -> Path:
    """A Reshape that cannot be."""
    nodes = [
        helper.make_node("Cast", ["crops"], ["f"], to=TensorProto.FLOAT),
        helper.make_node(
            "Constant", [], ["s"], value=numpy_helper.from_array(np.array([1, K, 16, 13]), "s")
        ),
        helper.make_node("Reshape", ["f", "s"], ["heatmaps"]),
    ]
    return graph(path, nodes=nodes)


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "nothing.onnx": lambda p: _written(p, b""),
    "text.onnx": lambda p: _written(p, b"<html>Not found</html>"),
    "cut.onnx": lambda p: _written(p, write_tiny_weights(p).read_bytes()[:-300]),
    "bare.onnx": lambda p: write_tiny_weights(p, None),
    "other-name.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4), name="poses"),
    "fewer-channels.onnx": lambda p: graph(p, maps(1, 3, H // 4, W // 4)),
    "other-size.onnx": lambda p: graph(p, maps(1, K, 5, 7)),
    "no-pixels.onnx": lambda p: graph(p, maps(1, K, 0, 0)),
    "two-axes.onnx": lambda p: graph(p, maps(3, 4)),
    "another-batch.onnx": lambda p: graph(p, maps(7, K, H // 4, W // 4)),
    "nan.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4, value=np.nan)),
    "infinite.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4, value=np.inf)),
    "integers.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4, value=1, dtype=np.int64)),
    "strings.onnx": lambda p: graph(p, np.full((1, K, H // 4, W // 4), "a", dtype=object)),
    "float-input.onnx": lambda p: graph(
        p, maps(1, K, H // 4, W // 4), input_type=TensorProto.FLOAT
    ),
    "two-inputs.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4), inputs=("crops", "more")),
    "other-input.onnx": lambda p: graph(p, maps(1, K, H // 4, W // 4), shape=(1, 9, 9, 3)),
    "fails.onnx": fails_when_run,
    "a-detector.onnx": lambda p: graph(
        p, maps(1, 5, 8, 8), metadata=DetectorMetadata("w16-small", 64)
    ),
    "yolox.onnx": lambda p: write_detector(p, {"output": maps(1, 84, 85)}),
    "empty.safetensors": lambda p: _written(p, save({}, {Metadata.keys[0]: METADATA.to_json()})),
    "nan.safetensors": lambda p: _written(p, save({"final_layer.weight": torch.tensor([np.nan])})),
    "no-network.safetensors": lambda p: _written(
        p, save({"a": torch.ones(2)}, {Metadata.keys[0]: METADATA.to_json()})
    ),
    "header.safetensors": lambda p: _written(p, (2**40).to_bytes(8, "little") + b"{}"),
    "zip.ckpt": lambda p: _written(p, b"PK\x03\x04" + bytes(100)),
    "list.ckpt": lambda p: _saved(p, [1, 2]),
    "keys.ckpt": lambda p: _saved(p, {Metadata.keys[0]: METADATA.to_json(), "state_dict": {1: 2}}),
    "a-folder.onnx": lambda p: (p.mkdir(), p)[1],
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def no_hub() -> None:
    raise UserError("no Hub here", code="download-failed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "train", 2, 0)
    Image.effect_noise((64, 48), 90).save(folder / "a.png")
    found = json.loads((folder / "train" / "annotations.json").read_text())["annotations"]
    results = [
        {**{key: a[key] for key in ("image_id", "category_id", "keypoints", "bbox")}, "score": 0.5}
        for a in found
    ]
    (folder / "results.json").write_text(json.dumps(results))
    return folder


COMMANDS = {
    "predict": "predict {data}/a.png --weights {w} --detector none --out {out}",
    "predict --detector": "predict {data}/a.png --detector {w} --out {out}",
    "explain": "explain {data}/a.png --weights {w} --detector none --out {out}/e.html",
    "evaluate": "evaluate --weights {w} --annotations {truth} --images {images}",
    "evaluate-detector": "evaluate-detector --detector {w} --annotations {truth} --images {images}",
    "batch": "batch {data}/train/images --weights {w} --detector none --out {out} --workers 1",
    "export": "export {w} --out {out}.onnx",
    "quantize": "quantize {w} --annotations {truth} --images {images} --out {out}.onnx",
    "summary": "summary {w}",
    "convert": "weights convert {w} --out {out}.safetensors",
    "rank": "data rank {images} --weights {w} --detector none --out {out}.json",
    "check": "data check {truth} --images {images} --weights {w}",
    "analyze": "analyze {data}/results.json --annotations {truth} --images {images} --weights {w}",
    "env": "env --weights {w}",
    "verify": "verify --weights {w} --against {w}",
    "serve": "serve --weights {w} --port 0 --detector none",
    "push": "weights push {w} --to a/b",
    "train": "train {recipe} --data {data} --out {out} --set weights={w} --check"
    " --set data.val.annotations=train/annotations.json --set data.val.images=train/images",
    "finetune": "finetune {truth} {truth} --images {images} --weights {w} --out {out}"
    " --set training.epochs=1",
}
# These get all files; the others every fifth, or every tenth where it takes seconds.
THOROUGH = ("predict", "predict --detector", "verify", "serve", "push")
SLOW = ("batch", "finetune", "env")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_ends_in_a_traceback(
    command: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Without what comes before and after the weights are opened.
    monkeypatch.setattr(comparisons, "verify", lambda _: Certificate((), ()))
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)
    monkeypatch.setattr(hub, "_api", no_hub)
    step = 1 if command in THOROUGH else 10 if command in SLOW else 5
    refused = 0
    for name in list(HOSTILE)[list(COMMANDS).index(command) % step :: step]:
        line = COMMANDS[command].format(
            w=HOSTILE[name](tmp_path / name),
            data=data,
            recipe=ROOT / "recipes" / "synthetic.yaml",
            out=tmp_path / f"out-of-{name}",
            truth=data / "train" / "annotations.json",
            images=data / "train" / "images",
        )
        ran = CliRunner().invoke(app, line.split())
        if isinstance(ran.exception, UserError):
            assert "\n" not in str(ran.exception)
            refused += 1
        elif ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise AssertionError(line) from ran.exception
        else:
            assert ran.exit_code in (0, 1, 2), (line, ran.output)
            assert "Usage:" not in ran.output, (line, ran.output)
    assert refused or command in ("env", "batch")


@pytest.mark.parametrize(
    "name", ["other-name", "fewer-channels", "two-axes", "nan", "strings", "two-inputs", "fails"]
)
def test_a_network_that_does_not_do_what_its_metadata_say(name: str, tmp_path: Path) -> None:
    path = HOSTILE[f"{name}.onnx"](tmp_path / f"{name}.onnx")
    with refusals.refused("weights-unsuitable", path.name):
        open_session(path, threads=1, device="cpu")(np.zeros((1, H, W, 3), np.uint8))
