"""Sessions run networks: one call for any engine.

`open_session` opens pose models (crops to heatmaps), `open_network` any ONNX network, such as a
detector's. The engine is ONNX Runtime for .onnx files, PyTorch for .safetensors and .ckpt.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.metadata import Metadata, metadata_of

# The types of inputs and outputs, by their names in ONNX Runtime.
_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
}


class Session(Protocol):
    """A pose model, ready to run."""

    @property
    def metadata(self) -> Metadata:
        """What the weights are, and how they are fed and read."""
        ...

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB crops (n, h, w, 3) of the metadata's size to heatmaps (n, k, h/4, w/4)."""
        ...


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network.

    `shape` has names or None where a length is free; `dtype` is None for types that NumPy has not.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any] | None


class Network(Protocol):
    """Any network, ready to run."""

    @property
    def inputs(self) -> Sequence[Port]: ...

    @property
    def outputs(self) -> Sequence[Port]: ...

    @property
    def engine(self) -> str:
        """What runs it, and on which device, for messages."""
        ...

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The `outputs` of these names, by default all, from inputs by their names."""
        ...


def open_session(path: Path, threads: int | None = None) -> Session:
    """Open a pose model: `.onnx`, or with PyTorch `.safetensors` and `.ckpt`.

    At most `threads` threads run an ONNX file, see `open_network`. Raises UserError for a file that
    is missing, of another kind, or without metadata of hrpose.
    """
    if path.suffix == ".onnx":
        return OnnxSession(path, threads)
    if path.suffix in (".safetensors", ".ckpt"):
        return TorchSession(path)
    raise UserError(
        f"{path}: expected weights (.onnx, .safetensors or .ckpt); `hrpose weights convert` makes "
        "them of other checkpoints",
        code="weights-unknown",
    )


def open_network(path: Path, what: str = "model", threads: int | None = None) -> Network:
    """Open an ONNX file, to run on at most `threads` threads, by default on all usable cores.

    Raises UserError where it is missing or cannot be run; `what` says in it what was expected.
    """
    return OnnxNetwork(path, what, threads)


class OnnxNetwork:
    """An ONNX file on ONNX Runtime.

    With `threads` given the cores have other work, so waiting threads sleep. Otherwise they spin,
    which is a little faster on an idle machine, and up to twice as slow on a busy one.
    """

    def __init__(self, path: Path, what: str = "model", threads: int | None = None) -> None:
        import onnxruntime as ort  # Here, because it takes a good part of the start-up time.

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or usable_cores()
        if threads is not None:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The graphs are chains of large nodes: running several at once gains nothing.
        options.inter_op_num_threads = 1
        try:
            providers = ort.get_available_providers()
            self._session = ort.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no common public base.
            if not path.is_file():
                raise UserError(
                    f"{path}: no such file; check the name of the {what}", code="file-unreadable"
                ) from error
            first = str(error).split("\n")[0]
            raise UserError(
                f"{path}: expected an ONNX {what}, found: {first}", code="weights-damaged"
            ) from error
        self._opened = (path, what, threads)
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        return [np.asarray(output) for output in self._session.run(outputs, dict(feeds))]

    @property
    def engine(self) -> str:
        """What runs it, and on which device, for messages."""
        providers = self._session.get_providers()
        local = next((name for name in providers if not name.startswith("Azure")), "CPU")
        return f"ONNX Runtime on {local.removesuffix('ExecutionProvider')}"

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def _port(entry: Any) -> Port:
    return Port(entry.name, tuple(entry.shape), _DTYPES.get(entry.type))


class OnnxSession:
    """A pose model in an ONNX file, as `hrpose export` writes it."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._opened = (path, threads)
        self._network = open_network(path, threads=threads)
        self.metadata = metadata_of(path, Metadata)
        self._input = self._network.inputs[0].name

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        (heatmaps,) = self._network({self._input: crops}, ["heatmaps"])
        return heatmaps

    @property
    def engine(self) -> str:
        """What runs it, and on which device, for messages."""
        return self._network.engine

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


class TorchSession:
    """A pose model in a `.safetensors` or `.ckpt` file on PyTorch; on the GPU if there is one."""

    def __init__(self, path: Path, device: str | None = None) -> None:
        try:
            import torch

            from hrpose.models import checkpoint
            from hrpose.models.hrnet import Normalize
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path}: needs PyTorch; install hrpose[train], or export the weights to ONNX",
                code="package-missing",
            ) from error
        self._opened = (path, device)
        network, self.metadata = checkpoint.load(path)
        normalize = Normalize(self.metadata.mean, self.metadata.std)
        self._torch = torch
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = torch.nn.Sequential(normalize, network).eval().to(self._device)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            images = self._torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
            heatmaps: NDArray[np.float32] = self._model(images).float().cpu().numpy()
        return heatmaps

    @property
    def engine(self) -> str:
        """What runs it, and on which device, for messages."""
        return f"PyTorch on {self._device}"

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def usable_cores() -> int:
    """The number of cores this process may use; all of them on systems that cannot tell.

    ONNX Runtime would count those of the machine, of which a container may have few.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
