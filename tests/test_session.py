"""Opening ONNX files: external weights are read from the same folder only."""

import os
from pathlib import Path

import onnx
import pytest

from hrpose.session import open_network
from refusals import refused
from tiny_weights import write_tiny_weights


def refer(path: Path, location: str) -> bytes:
    """Let the weights of a model lie in a file of their own; returns their bytes."""
    model = onnx.load(write_tiny_weights(path))
    (weights,) = model.graph.initializer
    content: bytes = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(len(content)))):
        weights.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return content


@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_weights_outside_the_folder_are_not_read(tmp_path: Path, way: str) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "model"
    folder.mkdir()
    location = {"up": "../secret", "absolute": str(secret), "link": "link"}[way]
    os.symlink(secret, folder / "link")
    secret.write_bytes(refer(folder / "a.onnx", location))
    with refused("weights-damaged", "a.onnx"):
        open_network(folder / "a.onnx")


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "beside").write_bytes(refer(tmp_path / "a.onnx", "beside"))
    open_network(tmp_path / "a.onnx")
