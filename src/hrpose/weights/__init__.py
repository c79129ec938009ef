"""Weights by name: those inside the package."""

from importlib import resources
from pathlib import Path

from hrpose.errors import UserError

EMBEDDED = ("w16-small",)


def find(name_or_file: str | Path) -> Path:
    """The file of weights given by name or as a file. Raises UserError where there is none."""
    if str(name_or_file) in EMBEDDED:
        return Path(str(resources.files("hrpose.weights") / f"{name_or_file}.onnx"))
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise UserError(
        f"{name_or_file}: no such weights; expected a file (.onnx, .safetensors, .ckpt) or one of: "
        f"{', '.join(EMBEDDED)}"
    )
