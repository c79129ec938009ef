"""A session holds trained weights and turns crops into heatmaps. ONNX Runtime or PyTorch."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
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
        import onnxruntime as ort  # Here, because it takes a good part of the start-up time.

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or usable_cores()
        # The graph is a chain of large nodes: running several at once gains nothing.
        options.inter_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(
                path, options, providers=ort.get_available_providers()
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common public base.
            if not path.is_file():
                raise UserError(f"{path}: no such file") from error
            first = str(error).split("\n")[0]
            raise UserError(f"{path}: expected an ONNX model, found: {first}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
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


def usable_cores() -> int:
    """The cores this process may use; not every system can tell, then all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    raise UserError(f"{path}: expected weights (.onnx, .safetensors or .ckpt)")
