"""Detectors by name: `auto`, `builtin`, `none`, `torchvision`, released ones, or an ONNX file."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.detection.detector import Boxes, Detector, FullImage, FunctionDetector, OrFullImage
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata
from hrpose.model_files import read_texts
from hrpose.weights import find
from hrpose.weights.download import usable_file
from hrpose.weights.registry import RELEASED

NAMES = ("auto", "builtin", "none", "torchvision")

# What a user may give for a detector: a name, an ONNX file, or a function of his own.
AnyDetector = str | Path | Callable[[NDArray[np.uint8]], Boxes | ArrayLike]


def open_detector(
    name_or_file: AnyDetector = "auto", threshold: float | None = None, threads: int | None = None
) -> Detector:
    """The detector of this name, ONNX file or function.

    `auto` is the best that is here: a detector of `hrpose weights`, if one was downloaded, else the
    one inside the package, and the full image where that detects nobody; its name says which.
    Nothing is fetched.
    `threshold` is the least score of a box, in [0, 1]; without it the detector's own. Raises
    UserError for an unknown name or a file that is no detector.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"box threshold: expected 0 to 1, found {threshold}")
    options = {} if threshold is None else {"threshold": threshold}
    if not isinstance(name_or_file, str | Path):
        return FunctionDetector(name_or_file, **options)
    name = str(name_or_file)
    if name == "auto":
        name = _best_here()
        if name == "builtin":
            return OrFullImage(open_detector(name, threshold, threads))
    if name == "none":
        if threshold is not None:
            raise UserError(
                f"box threshold: expected a detector that scores its boxes, found '{name}' (the "
                "full image is the box); leave it out or name a detector",
                code="threshold-unused",
            )
        return FullImage()
    if name == "builtin":
        if not builtin_file().is_file():
            raise UserError("detector builtin: not in this package; choose another --detector")
        from hrpose.detection.person_detector import PersonDetector

        return PersonDetector(builtin_file(), threads=threads, **options)
    if name == "torchvision":
        from hrpose.detection.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(**options)
    if _is_person_detector(Path(name)):
        from hrpose.detection.person_detector import PersonDetector

        return PersonDetector(Path(name), threads=threads, **options)
    released = released_detectors()
    if name in released or Path(name).suffix == ".onnx":
        from hrpose.detection.onnx_detector import OnnxDetector

        file = find(name) if name in released else Path(name)
        return OnnxDetector(file, threads=threads, **options)
    known = ", ".join((*NAMES, *released))
    raise UserError(f"detector {name}: expected a file (.onnx) or one of: {known}")


def detector_file(name: str) -> Path | None:
    """The file that `open_detector` reads for this name; None where it reads none of ours."""
    if name == "auto":
        name = _best_here()
    if name == "builtin":
        return builtin_file()
    if name in RELEASED:
        return find(name)
    return Path(name) if Path(name).suffix == ".onnx" else None


def _is_person_detector(path: Path) -> bool:
    """Whether a file is an ONNX file that says it is a person detector of hrpose."""
    try:
        return path.suffix == ".onnx" and DetectorMetadata.key in read_texts(path)
    except UserError:  # what is wrong with it says whoever opens it
        return False


def _best_here() -> str:
    for name in released_detectors():
        if usable_file(RELEASED[name]).is_file():
            return name
    return "builtin" if builtin_file().is_file() else "none"


def released_detectors() -> list[str]:
    """Names of the detectors that `hrpose weights` can fetch, the best first."""
    rows = [row for row in RELEASED.values() if row.kind == "detector"]
    return [row.name for row in sorted(rows, key=lambda row: -(row.score or 0))]


def builtin_file() -> Path:
    """Where the package keeps its own person detector, if it has one."""
    return Path(str(resources.files("hrpose") / "weights" / "person-detector.onnx"))
