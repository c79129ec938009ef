"""A session holds trained weights and turns crops into heatmaps. ONNX Runtime or PyTorch."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.onnx_file import open_onnx, read_notes
from hrpose.passport import METADATA_KEY, Passport


class Session(Protocol):
    """Trained weights, ready to run."""

    @property
    def passport(self) -> Passport: ...

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB crops (n, h, w, 3) of the passport's size to heatmaps (n, k, h/4, w/4)."""
        ...


class OnnxSession:
    """An ONNX file written by `hrpose export`."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._session = open_onnx(path, threads=threads)
        metadata = read_notes(self._session, path)
        if METADATA_KEY not in metadata:
            raise UserError(
                f"{path}: carries no hrpose passport, so its input size and keypoints are "
                "unknown; write it with `hrpose export`"
            )
        self.passport = Passport.from_json(metadata[METADATA_KEY], path)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        heatmaps: NDArray[np.float32] = self._session.run(["heatmaps"], {self._input: crops})[0]
        return heatmaps


def open_session(path: Path, threads: int | None = None) -> Session:
    """Open weights by their kind: `.onnx`, or with PyTorch `.safetensors` and `.ckpt`.

    `threads` bounds the threads of ONNX Runtime; without it, all cores this process may use.
    Raises UserError for a file that is missing, of another kind, or without a passport.
    """
    if path.suffix == ".onnx":
        return OnnxSession(path, threads)
    if path.suffix in (".safetensors", ".ckpt"):
        try:
            from hrpose.runtime.torch_session import TorchSession
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path}: needs PyTorch; install hrpose[train], or export the weights to ONNX"
            ) from error
        return TorchSession(path)
    raise UserError(
        f"{path}: expected weights (.onnx, .safetensors or .ckpt); `hrpose weights "
        "convert` makes them of other checkpoints"
    )
