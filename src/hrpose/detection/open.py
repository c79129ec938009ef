"""Detectors by name: `auto`, `finder`, `whole`, `torchvision`, or an ONNX file."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.detection.detector import Boxes, Detector
from hrpose.detection.simple import FunctionDetector, WholePicture
from hrpose.errors import UserError

NAMES = ("auto", "finder", "whole", "torchvision")

# What a user may give for a detector: a name, an ONNX file, or a function of his own.
AnyDetector = str | Path | Callable[[NDArray[np.uint8]], Boxes | ArrayLike]


def open_detector(
    name_or_file: AnyDetector = "auto", threshold: float | None = None, threads: int | None = None
) -> Detector:
    """The detector of this name, ONNX file or function.

    `auto` is the finder inside the package where there is one, else the whole picture; its name
    says which. `threshold` is the least score of a box, in [0, 1]; without it the detector's own.
    Raises UserError for an unknown name or a file that is no detector.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"box threshold: expected 0 to 1, found {threshold}")
    if not isinstance(name_or_file, str | Path):
        return FunctionDetector(name_or_file)
    name = str(name_or_file)
    if name == "whole" or (name == "auto" and not finder_file().is_file()):
        return WholePicture()
    options = {} if threshold is None else {"threshold": threshold}
    if name in ("auto", "finder"):
        if not finder_file().is_file():
            raise UserError("detector finder: not in this package; choose another --detector")
        from hrpose.detection.finder import Finder

        return Finder(finder_file(), threads=threads, **options)
    if name == "torchvision":
        from hrpose.detection.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(**options)
    if Path(name).suffix == ".onnx":
        from hrpose.detection.onnx_detector import OnnxDetector

        return OnnxDetector(Path(name), threads=threads, **options)
    raise UserError(f"detector {name}: expected a file (.onnx) or one of: {', '.join(NAMES)}")


def finder_file() -> Path:
    """Where the package keeps its own finder, if it has one."""
    return Path(str(resources.files("hrpose") / "weights" / "finder.onnx"))
