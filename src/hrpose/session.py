"""Sessions run networks: one call for any engine.

`open_session` opens pose models (crops to heatmaps), `open_network` any ONNX network, such as a
detector's. ONNX Runtime or OpenVINO run .onnx files, as `hrpose.engines` chooses; PyTorch runs
.safetensors and .ckpt.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.engines import Engine, asked, candidates, onnxruntime, openvino, provider
from hrpose.errors import UserError
from hrpose.metadata import Metadata, check_weights, metadata_of

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
    def engine(self) -> Engine:
        """What runs it: library, device and precision."""
        ...

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The `outputs` of these names, by default all, from inputs by their names."""
        ...


def open_session(
    path: Path, threads: int | None = None, device: str = "auto", precision: str = "auto"
) -> Session:
    """Open a pose model: `.onnx`, or with PyTorch `.safetensors` and `.ckpt`.

    At most `threads` threads run an ONNX file; for `device` and `precision` see `open_network`.
    Raises UserError for a file that is missing, of another kind, or without metadata of hrpose, and
    for a device that is not there.
    """
    if path.suffix == ".onnx":
        return OnnxSession(path, threads, device, precision)
    if path.suffix in (".safetensors", ".ckpt"):
        return TorchSession(path, device, precision)
    raise UserError(
        f"{path}: expected weights (.onnx, .safetensors or .ckpt); `hrpose weights convert` makes "
        "them of other checkpoints",
        code="weights-unknown",
    )


def open_network(
    path: Path,
    what: str = "model",
    threads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Network:
    """Open an ONNX file, to run on at most `threads` threads, by default on all usable cores.

    `device` is auto, cpu, cuda, cuda:1, tensorrt, coreml, directml, openvino or openvino:GPU;
    `precision` is auto, fp32, bf16, fp16, or int8 for weights of eight bits. `auto` takes a GPU
    that ONNX Runtime can use, else OpenVINO with bf16 where it is installed and the processor
    computes in it, else ONNX Runtime on the CPU. Raises UserError where the file is missing or
    cannot be run, and where a device that was named is not there or fails to start; `what` says in
    it what was expected.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; check the name of the {what}", code="file-unreadable"
        )
    check_weights(path)
    tried = candidates(device, precision)
    for engine in tried:
        try:
            if engine.kind == "openvino":
                return OpenVinoNetwork(path, engine, threads)
            return OnnxNetwork(path, engine, threads)
        except Exception as error:  # The engines' exceptions have no common public base.
            if engine is not tried[-1]:
                continue  # `auto`: the next one may read it
            first = str(error).strip().split("\n")[0]
            if engine.kind == "cpu":
                raise UserError(
                    f"{path}: expected an ONNX {what}, found: {first}", code="weights-damaged"
                ) from error
            raise UserError(
                f"{path}: {engine} fails to start: {first}; `hrpose env` shows what runs here, "
                "--device cpu always does",
                code="device-failed",
            ) from error
    raise AssertionError("candidates are never none")


class OnnxNetwork:
    """An ONNX file on ONNX Runtime.

    Its threads sleep while they wait. Spinning would take the cores from what runs beside the
    network: reading, drawing, other processes.
    """

    def __init__(self, path: Path, engine: Engine, threads: int | None = None) -> None:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or usable_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The graphs are chains of large nodes: running several at once gains nothing.
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = engine.kind != "directml"  # which cannot have it
        wanted, settings = provider(engine)
        providers: list[Any] = [(wanted, settings)]
        if engine.kind != "cpu":
            providers.append("CPUExecutionProvider")  # for operations that the device has not
        # Otherwise it would print a line, and run on the CPU.
        self._session = ort.InferenceSession(path, options, providers, enable_fallback=0)
        if wanted not in self._session.get_providers():
            raise RuntimeError(f"ONNX Runtime could not load {wanted} (drivers or libraries)")
        self.engine = engine
        self._opened = (path, engine, threads)
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        return [np.asarray(output) for output in self._session.run(outputs, dict(feeds))]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def _port(entry: Any) -> Port:
    return Port(entry.name, tuple(entry.shape), _DTYPES.get(entry.type))


class OpenVinoNetwork:
    """An ONNX file on OpenVINO."""

    def __init__(self, path: Path, engine: Engine, threads: int | None = None) -> None:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": engine.precision.replace("fp", "f"),
        }
        device = engine.which or "CPU"
        if device == "CPU":
            settings |= {
                "INFERENCE_NUM_THREADS": threads or usable_cores(),
                "NUM_STREAMS": 1,
                # Several processes would be pinned to the same cores.
                "ENABLE_CPU_PINNING": False,
            }
        core = openvino()
        model = core.read_model(path)
        self._model = core.compile_model(model, device, settings)
        self.engine = engine
        self._opened = (path, engine, threads)
        # As many as threads have called at once. To make one takes half as long as a small network.
        self._requests: list[Any] = []
        # Compiled, a port has the names of inner nodes as well, and says any of them.
        self.inputs = tuple(map(_openvino_port, model.inputs))
        self.outputs = tuple(map(_openvino_port, model.outputs))

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        names = [port.name for port in self.outputs] if outputs is None else outputs
        try:
            request = self._requests.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.infer({name: np.ascontiguousarray(array) for name, array in feeds.items()})
        results = [request.get_tensor(name).data.copy() for name in names]
        self._requests.append(request)
        return results

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def _openvino_port(entry: Any) -> Port:
    shape = tuple(
        length.get_length() if length.is_static else None for length in entry.partial_shape
    )
    return Port(entry.any_name, shape, np.dtype(entry.element_type.to_dtype()))


def check_ports(network: Network, path: Path, outputs: Sequence[str]) -> None:
    """Raises UserError where the ports are not those of `hrpose export`: images in, maps out."""
    found = {port.name for port in network.outputs}
    images, *more = network.inputs
    if more or images.dtype != np.uint8 or len(images.shape) != 4 or not found.issuperset(outputs):
        raise UserError(
            f"{path}: expected one input of uint8 images (n, h, w, 3) and the outputs "
            f"{', '.join(outputs)}, as `hrpose export` writes them, found "
            f"{', '.join(f'{port.name} {list(port.shape)}' for port in network.inputs)} and "
            f"{', '.join(sorted(found))}; export the weights again",
            code="weights-unsuitable",
        )


def run_own(
    network: Network, path: Path, images: NDArray[np.uint8], shapes: Mapping[str, tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """Run a network with the ports of `check_ports`; `shapes` are those of the outputs, by name.

    Raises UserError where it fails, or gives something else than its metadata say: the file may be
    anyone's.
    """
    try:
        found = network({network.inputs[0].name: images}, list(shapes))
    except MemoryError:
        raise
    except Exception as error:  # The engines' exceptions have no common public base.
        raise UserError(
            f"{path}: cannot be run on images {images.shape}: {' '.join(str(error).split())[:300]}",
            code="weights-unsuitable",
        ) from error
    for (name, shape), output in zip(shapes.items(), found, strict=True):
        if output.shape != shape or output.dtype != np.float32:
            raise UserError(
                f"{path}: expected {name} of float32 {shape}, found {output.dtype} {output.shape}; "
                "export the weights again",
                code="weights-unsuitable",
            )
        if output.size and not np.isfinite(output.max()):
            raise UserError(
                f"{path}: expected finite numbers, found NaN or infinity in {name}; use a "
                "--precision of more bits, or other weights",
                code="weights-unsuitable",
            )
    return found


class OnnxSession:
    """A pose model in an ONNX file, as `hrpose export` writes it."""

    def __init__(
        self, path: Path, threads: int | None = None, device: str = "auto", precision: str = "auto"
    ) -> None:
        self._opened = (path, threads, device, precision)
        words = asked(device, precision)[1]
        eight_bits = words in ("auto", "int8") and _has_eight_bits(path)
        if words == "int8" and not eight_bits:
            raise UserError(
                f"precision int8: {path.name} has weights of float32; `hrpose quantize` makes "
                "those of eight bits",
                code="device-missing",
            )
        precision = "int8" if eight_bits else precision
        self._network = open_network(path, "model", threads, device, precision)
        self.metadata = metadata_of(path, Metadata)
        check_ports(self._network, path, ("heatmaps",))

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        width, height = self.metadata.heatmap_wh
        shape = (len(crops), self.metadata.channels, height, width)
        (heatmaps,) = run_own(self._network, self._opened[0], crops, {"heatmaps": shape})
        return heatmaps

    @property
    def engine(self) -> Engine:
        """What runs it."""
        return self._network.engine

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def _has_eight_bits(path: Path) -> bool:
    return path.is_file() and b"QuantizeLinear" in path.read_bytes()


class TorchSession:
    """A pose model in a `.safetensors` or `.ckpt` file on PyTorch; on the GPU if there is one."""

    def __init__(self, path: Path, device: str = "auto", precision: str = "auto") -> None:
        try:
            import torch

            from hrpose.models import checkpoint
            from hrpose.models.hrnet import Normalize
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path}: needs PyTorch; install hrpose[train], or export the weights to ONNX",
                code="package-missing",
            ) from error
        self._opened = (path, device, precision)
        device, precision = asked(device, precision)
        self._device = torch_device(device, path.name)
        if precision == "int8":
            raise UserError(
                f"precision int8: {path.name} has weights of float32; `hrpose quantize` makes "
                "those of eight bits, as .onnx",
                code="device-missing",
            )
        network, self.metadata = checkpoint.load(path)
        normalize = Normalize(self.metadata.mean, self.metadata.std)
        self._torch = torch
        self._precision = "fp32" if precision == "auto" else precision
        self._model = torch.nn.Sequential(normalize, network).eval().to(self._device)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch = self._torch
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._precision)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype, enabled=dtype is not None),
        ):
            images = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
            heatmaps: NDArray[np.float32] = self._model(images).float().cpu().numpy()
        return heatmaps

    @property
    def engine(self) -> str:
        """What runs it."""
        return f"PyTorch on {self._device}, {self._precision}"

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened


def torch_device(device: str, name: str) -> Any:
    """PyTorch's device: for auto the GPU if there is one. Raises UserError where it is not there.

    `name` is what runs on it, for messages. Needs PyTorch.
    """
    import torch

    gpus = torch.cuda.device_count()
    device, _ = asked(device)
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    kind, _, which = device.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and int(which or 0) >= gpus):
        there = f"cpu or cuda:0 to cuda:{gpus - 1}" if gpus else "cpu; it finds no GPU"
        raise UserError(
            f"device {device}: PyTorch runs {name} on {there}; other devices run .onnx files, "
            "which `hrpose export` writes",
            code="device-missing",
        )
    return torch.device(device)


def usable_cores() -> int:
    """The number of cores this process may use; all of them on systems that cannot tell.

    ONNX Runtime would count those of the machine, of which a container may have few.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
