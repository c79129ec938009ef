"""`python -m benchmarks.gpu`: training and prediction of W32 256x192 on an NVIDIA GPU.

It takes less than eight minutes.

    pip install "hrpose[train]" && pip uninstall -y onnxruntime
    pip install onnxruntime-gpu tensorrt-cu12
    python -m benchmarks.gpu

Prediction is from ready crops to heatmaps, 16 persons in a batch: ONNX Runtime on CUDA in float32
and TensorRT in float16, beside PyTorch eager and compiled, in float16 and channels_last. Training
steps are those of `benchmarks.training_step`. What is not installed, or has not begun after 7
minutes, is said to be not measured. Without a GPU the script ends with one line.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import training_step
from benchmarks.engines import write_w32
from benchmarks.rows import Fact, Row, Table
from hrpose.errors import UserError
from hrpose.metadata import IMAGENET_MEAN, IMAGENET_STD
from hrpose.models import checkpoint
from hrpose.models.hrnet import Normalize
from hrpose.session import OnnxSession

PERSONS = 16
LAST_START = 7 * 60.0


def in_pytorch(weights: Path, *, compiled: bool) -> Callable[[NDArray[np.uint8]], object]:
    """Crops to heatmaps on the GPU in float16."""
    network, _ = checkpoint.load(weights)
    network = network.eval().to("cuda", torch.float16, memory_format=torch.channels_last)
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD).to("cuda")
    if compiled:
        network.compile(mode="max-autotune-no-cudagraphs")

    def run(crops: NDArray[np.uint8]) -> object:
        with torch.inference_mode():
            inputs = normalize(torch.from_numpy(crops).to("cuda")).half()
            return network(inputs.contiguous(memory_format=torch.channels_last)).float().cpu()

    return run


def predictions(folder: Path) -> Iterator[Row | Fact]:
    """ONNX Runtime on CUDA, TensorRT and compiled PyTorch, each beside eager PyTorch."""
    file = folder / "w32.onnx"
    write_w32(file)
    source = file.with_suffix(".safetensors")
    crops = np.random.default_rng(0).integers(0, 256, (PERSONS, 256, 192, 3), np.uint8)
    eager = in_pytorch(source, compiled=False)
    openers: dict[str, Callable[[], Callable[[NDArray[np.uint8]], object]]] = {
        "ONNX Runtime on CUDA, fp32": lambda: OnnxSession(file, device="cuda"),
        "TensorRT, fp16": lambda: OnnxSession(file, device="tensorrt", precision="fp16"),
        "PyTorch compiled, fp16": lambda: in_pytorch(source, compiled=True),
    }
    for what, opener in openers.items():
        try:
            opened = opener()
        except UserError as error:
            yield Fact(f"W32 256x192, {what}", f"not measured ({error})")
            continue
        yield Row(
            f"W32 256x192, {PERSONS} ready crops: {what}",
            "PyTorch eager, fp16",
            lambda opened=opened: opened(crops),  # type: ignore[misc]
            lambda: eager(crops),
            rounds=15,
            wall=True,
            per=PERSONS,
        )


def main() -> None:
    """Print the rows as they are measured."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu: expected a GPU that PyTorch can use, found none; not measured")
    print(torch.cuda.get_device_name())
    table, start = Table(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for rows in (predictions(Path(folder)), training_step.rows()):
            for row in rows:
                if time.monotonic() - start > LAST_START:
                    row = Fact(row.what, "not measured (out of time)")
                table.run(row)


if __name__ == "__main__":
    main()
