"""Person detectors by name: `auto`, `builtin`, `full-image`, `torchvision`, released, or a file."""

from collections.abc import Callable
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.estimator import Detector, FullImage
from hrpose.geometry import Boxes, xyxy_to_xywh
from hrpose.metadata import is_detector
from hrpose.weights.registry import RELEASED, find, usable_file

NAMES = ("auto", "builtin", "full-image", "torchvision")
# Other names of `full-image`.
_FULL_IMAGE = ("full-image", "none")

# What a user may give for a detector: a name, an ONNX file, or a function.
AnyDetector = str | Path | Callable[[NDArray[np.uint8]], Boxes | ArrayLike]


def open_detector(
    name_or_file: AnyDetector = "auto", threshold: float | None = None, threads: int | None = None
) -> Detector:
    """The detector of this name, ONNX file or function.

    `auto` is the best one on this machine: a detector of `hrpose weights` if one was downloaded,
    else the one in the package; its name says which. Nothing is downloaded. `full-image`, also
    named `none`, detects nothing: each image is the box of one person. `threshold` is the least
    score of a box, in [0, 1], by default the detector's own; a network runs on at most `threads`
    threads. Raises UserError for an unknown name or a file that is no detector.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"box threshold: expected 0 to 1, found {threshold}", code="option-invalid")
    options = {} if threshold is None else {"threshold": threshold}
    if not isinstance(name_or_file, str | Path):
        return FunctionDetector(name_or_file, **options)
    name = str(name_or_file)
    if name == "auto":
        name = _best_on_this_machine()
    if name in _FULL_IMAGE:
        if threshold is not None:
            raise UserError(
                f"box threshold: expected a detector that scores its boxes, found '{name}' (the "
                "full image is the box); leave it out or name a detector",
                code="option-conflict",
            )
        return FullImage()
    if name == "torchvision":
        return TorchvisionDetector(**options)
    file = builtin_file() if name == "builtin" else Path(name)
    if name == "builtin" and not file.is_file():
        raise UserError(
            "detector builtin: not in this package; choose another --detector",
            code="detector-unknown",
        )
    if name == "builtin" or (file.suffix == ".onnx" and is_detector(file)):
        from hrpose.detection.person_detector import PersonDetector

        return PersonDetector(file, threads=threads, **options)
    released = released_detectors()
    if name in released or file.suffix == ".onnx":
        from hrpose.detection.onnx_detector import OnnxDetector

        file = find(name) if name in released else file
        return OnnxDetector(file, threads=threads, **options)
    known = ", ".join((*NAMES, *released))
    raise UserError(
        f"detector {name}: expected a file (.onnx) or one of: {known}", code="detector-unknown"
    )


def detector_file(name: str) -> Path | None:
    """The file that `open_detector` reads for this name, if it reads one."""
    if name == "auto":
        name = _best_on_this_machine()
    if name == "builtin":
        return builtin_file()
    if name in RELEASED:
        return find(name)
    return Path(name) if Path(name).suffix == ".onnx" else None


def released_detectors() -> list[str]:
    """Names of the detectors that `hrpose weights` can download, the best first."""
    rows = [row for row in RELEASED.values() if row.kind == "detector"]
    return [row.name for row in sorted(rows, key=lambda row: -(row.score or 0))]


def builtin_file() -> Path:
    """Where the package keeps its own person detector, if it has one."""
    return Path(str(resources.files("hrpose") / "weights" / "person-detector.onnx"))


def _best_on_this_machine() -> str:
    for name in released_detectors():
        if usable_file(RELEASED[name]).is_file():
            return name
    return "builtin"


class FunctionDetector:
    """A function of the user's: an image (h, w, 3) uint8 RGB in, boxes out.

    It may return `Boxes`, rows [x, y, w, h], or rows [x, y, w, h, score] with scores in [0, 1].
    Those with a score below `threshold` are left out.
    """

    def __init__(
        self, function: Callable[[NDArray[np.uint8]], Boxes | ArrayLike], threshold: float = 0.0
    ) -> None:
        self.function = function
        self.threshold = threshold
        own = getattr(function, "name", None) or getattr(function, "__name__", "own detector")
        self.name = str(own)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Raises UserError where the function returns something else."""
        returned = self.function(image)
        found = returned if isinstance(returned, Boxes) else _from_rows(returned, self.name)
        return found[~(found.scores < self.threshold)]


def _from_rows(found: ArrayLike, name: str) -> Boxes:
    try:
        rows: NDArray[Any] = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"detector {name}: expected rows [x, y, w, h] ({error})", code="boxes-invalid"
        ) from error
    if rows.size == 0:
        return Boxes.empty()
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise UserError(
            f"detector {name}: expected rows [x, y, w, h] or [x, y, w, h, score], "
            f"found shape {rows.shape}",
            code="boxes-invalid",
        )
    return Boxes(rows[:, :4], rows[:, 4] if rows.shape[1] == 5 else np.ones(len(rows)))


class TorchvisionDetector:
    """Faster R-CNN with MobileNetV3 (box AP 32.8 on COCO val2017 as torchvision states it).

    Its weights (74 MB) are downloaded from PyTorch's server at the first use. Boxes with a score
    of at least `threshold`, best first. Raises UserError where torchvision is not installed or the
    weights cannot be downloaded.
    """

    name = "torchvision's Faster R-CNN"
    # Torchvision numbers COCO's categories as COCO does.
    _PERSON = 1

    def __init__(self, threshold: float = 0.5) -> None:
        try:
            self._torch = import_module("torch")
            detection = import_module("torchvision.models.detection")
        except ImportError as error:
            raise UserError(
                f"detector torchvision: needs torchvision ({error}); pip install torchvision, "
                "or choose another --detector",
                code="package-missing",
            ) from error
        try:
            model = detection.fasterrcnn_mobilenet_v3_large_fpn(
                weights=detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT
            )
        except (OSError, RuntimeError) as error:  # no network, full disk, a damaged download
            raise UserError(
                f"detector torchvision: its weights cannot be downloaded ({error}); "
                "choose another --detector",
                code="download-failed",
            ) from error
        self.threshold = threshold
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process loads the weights again."""
        return type(self), (self.threshold,)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The persons in an RGB image (h, w, 3)."""
        torch = self._torch
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        with torch.inference_mode():
            (found,) = self._model([pixels.permute(2, 0, 1).float() / 255])
        persons = (found["labels"] == self._PERSON) & (found["scores"] >= self.threshold)
        xyxy = found["boxes"][persons].double().cpu().numpy()
        scores = found["scores"][persons].double().cpu().numpy().clip(0, 1)
        boxes = Boxes(xyxy_to_xywh(xyxy), scores)
        return boxes.best(len(boxes))
