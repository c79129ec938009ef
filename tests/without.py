"""Python without some packages, as in a smaller install: in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Comes with the extras, so it must not be needed to import or to predict.
EXTRAS = (
    "av",
    "fastapi",
    "faster_coco_eval",
    "fsspec",
    "huggingface_hub",
    "lightning",
    "msgspec",
    "onnx",
    "onnxscript",
    "openvino",
    "pandas",
    "pyarrow",
    "pydantic",
    "ray",
    "safetensors",
    "scipy",
    "tensorboard",
    "torch",
    "yaml",
)

_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def run_without(packages: Sequence[str], code: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code where importing these packages fails."""
    whole = _BLOCK.format(names=tuple(packages)) + code
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=90)


def block_at_start(packages: Sequence[str], folder: Path) -> None:
    """With `folder` in PYTHONPATH, importing these packages fails in every Python that starts."""
    (folder / "sitecustomize.py").write_text(_BLOCK.format(names=tuple(packages)))
