"""Person detectors: opened by name, file or function; and the built-in one.

`PersonDetector` is the built-in one, for which `encode` makes the maps that it learns of boxes, and
`decode` boxes of the maps. Zhou et al., "Objects as Points": a person is a peak of one heatmap. As
in Liu et al., "Training-Time-Friendly Network for Real-Time Object Detection", the Gaussian has the
shape of the box, and every cell near the center, not the peak alone, learns the distances to the
box's sides.

Maps have one cell for `STRIDE` x `STRIDE` input pixels; cell j sits at pixel STRIDE * j + 1.5.
Boxes of these functions are [x, y, w, h] in input pixels.
"""

from collections.abc import Callable
from importlib import import_module, resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.codec import Array, array_namespace
from hrpose.engines import exact
from hrpose.errors import UserError
from hrpose.estimator import Detector, FullImage
from hrpose.geometry import (
    Boxes,
    Crop,
    clip_boxes,
    iou_of_pairs,
    transform_boxes,
    warp,
    xyxy_to_xywh,
)
from hrpose.metadata import Confidence, DetectorMetadata, is_detector, metadata_of
from hrpose.session import check_ports, open_network, run_own, torch_device
from hrpose.weights.registry import RELEASED, find, usable_file

NAMES = ("auto", "builtin", "full-image", "torchvision")
# Other names of `full-image`.
_FULL_IMAGE = ("full-image", "none")

# What a user may give for a detector: a name, an ONNX file, or a function.
AnyDetector = str | Path | Callable[[NDArray[np.uint8]], Boxes | ArrayLike]


def open_detector(
    name_or_file: AnyDetector = "auto",
    threshold: float | None = None,
    threads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Detector:
    """The detector of this name, ONNX file or function.

    `auto` is the best one on this machine: a detector of `hrpose weights` if one was downloaded,
    else the one in the package; its name says which. Nothing is downloaded. `full-image`, also
    named `none`, detects nothing: each image is the box of one person. `threshold` is the least
    score of a box, in [0, 1], by default the detector's own; a network runs on at most `threads`
    threads, on `device` with `precision` as in `hrpose.session.open_network`; the detectors of
    others stay at fp32 unless another precision is named, since some compute coordinates in the
    network. Raises UserError for an unknown name, a file that is no detector, or a device that is
    not there.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"box threshold: expected 0 to 1, found {threshold}", code="option-invalid")
    options = {} if threshold is None else {"threshold": threshold}
    if not isinstance(name_or_file, str | Path):
        if not callable(name_or_file):
            raise UserError(
                f"detector: expected a name, a file or a function, found {name_or_file!r}",
                code="detector-unknown",
            )
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
        return TorchvisionDetector(device=device, **options)
    file = builtin_file() if name == "builtin" else Path(name)
    if name == "builtin" and not file.is_file():
        raise UserError(
            "detector builtin: not in this package; choose another --detector",
            code="detector-unknown",
        )
    if name == "builtin" or (file.suffix == ".onnx" and is_detector(file)):
        return PersonDetector(file, threads=threads, device=device, precision=precision, **options)
    released = released_detectors()
    if name in released or file.suffix == ".onnx":
        from hrpose.detection.onnx_detector import OnnxDetector

        file = find(name) if name in released else file
        return OnnxDetector(
            file, threads=threads, device=device, precision=exact(precision), **options
        )
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

    def __init__(self, threshold: float = 0.5, device: str = "auto") -> None:
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
        self._device = torch_device(device, self.name)
        self._opened = (threshold, device)
        self.engine = f"PyTorch on {self._device}, fp32"
        self._model = model.eval().to(self._device)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process loads the weights again."""
        return type(self), self._opened

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


STRIDE = 4

# Lower peaks are noise.
MIN_PEAK = 0.02

# The network's output is logarithms of distances in units of this many input pixels.
UNIT = 16.0

# The Gaussian's standard deviation, relative to the box, and its minimum in cells.
_RELATIVE_SIGMA = 0.09
_MIN_SIGMA = 0.7
# Cells whose Gaussian is above this learn the box.
_MIN_GAUSSIAN = 0.1
# Rows and columns from a peak to itself and its eight neighbors.
_NEIGHBORS = np.array(
    [(0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
).T


class Targets(NamedTuple):
    """The maps of one image: `heat` (h, w) in [0, 1], `distances` (4, h, w) in input pixels, at
    least 1, and `weights` (h, w), which sum to 1 over the cells of each person.
    """

    heat: NDArray[np.float32]
    distances: NDArray[np.float32]
    weights: NDArray[np.float32]


def cell_positions(map_wh: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x of the columns and the y of the rows, in input pixels."""
    columns, rows = (np.arange(cells, dtype=np.float64) for cells in map_wh)
    return columns * STRIDE + (STRIDE - 1) / 2, rows * STRIDE + (STRIDE - 1) / 2


def read_maps(outputs: Array) -> tuple[Array, Array]:
    """The network's outputs (n, 5, h, w) as logits of centers (n, h, w), and distances to the
    left, top, right and bottom side (n, 4, h, w) in input pixels.
    """
    xp = array_namespace(outputs)
    return outputs[:, 0], UNIT * xp.exp(xp.clip(outputs[:, 1:], -5, 5))


def encode(boxes_xywh: NDArray[np.float64], input_wh: tuple[int, int]) -> Targets:
    """The maps of boxes (n, 4), whose centers lie in the input."""
    w, h = input_wh[0] // STRIDE, input_wh[1] // STRIDE
    # Smallest first: where two persons share a center, it belongs to the smaller one.
    boxes = boxes_xywh[np.argsort(boxes_xywh[:, 2] * boxes_xywh[:, 3], kind="stable")]
    if len(boxes) == 0:
        zeros = np.zeros((h, w), np.float32)
        return Targets(zeros, np.ones((4, h, w), np.float32), zeros)
    sides, sizes = boxes[:, :2], boxes[:, 2:]
    x, y = cell_positions((w, h))
    center = (sides + sizes / 2 - (STRIDE - 1) / 2) / STRIDE
    column, row = np.clip(np.rint(center), 0, [w - 1, h - 1]).T
    sigma_x, sigma_y = np.maximum(_RELATIVE_SIGMA * sizes / STRIDE, _MIN_SIGMA).T
    across = ((np.arange(w) - column[:, None]) / sigma_x[:, None]) ** 2
    down = ((np.arange(h) - row[:, None]) / sigma_y[:, None]) ** 2
    gauss = np.exp(-0.5 * (down[:, :, None] + across[:, None, :]))
    owner, heat = gauss.argmax(axis=0), gauss.max(axis=0)
    near = np.where(heat > _MIN_GAUSSIAN, heat, 0.0)
    total = np.bincount(owner.ravel(), near.ravel(), len(boxes))
    weights = near / np.maximum(total, 1e-9)[owner]
    left, top = sides[owner, 0], sides[owner, 1]
    right, bottom = left + sizes[owner, 0], top + sizes[owner, 1]
    columns, rows = np.broadcast_arrays(x[None, :], y[:, None])
    distances = np.stack([columns - left, rows - top, right - columns, bottom - rows])
    return Targets(
        heat.astype(np.float32),
        np.maximum(distances, 1.0).astype(np.float32),
        weights.astype(np.float32),
    )


def decode(
    heat: NDArray[np.float32],
    distances: NDArray[np.float32],
    threshold: float = MIN_PEAK,
    limit: int = 100,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The peaks of `heat` (h, w) at or above `threshold`, best first and at most `limit`.

    A peak's box is the mean of the boxes that its 3 x 3 cells give by `distances` (4, h, w), as far
    as they are of the same person, weighted by their heat squared: that of the peak alone is less
    exact. Returns boxes (n, 4) in input pixels and peaks (n,).
    """
    peak = (heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= threshold)
    rows, columns = np.nonzero(peak)
    order = np.argsort(-heat[rows, columns], kind="stable")[:limit]
    rows, columns = rows[order], columns[order]
    # (n, 9) cells, the peak first; those outside the map have weight 0.
    near_rows, near_columns = rows[:, None] + _NEIGHBORS[0], columns[:, None] + _NEIGHBORS[1]
    h, w = heat.shape
    inside = (near_rows >= 0) & (near_rows < h) & (near_columns >= 0) & (near_columns < w)
    near_rows, near_columns = near_rows.clip(0, h - 1), near_columns.clip(0, w - 1)
    x, y = cell_positions((w, h))
    positions = np.stack([x[near_columns], y[near_rows]], axis=-1)
    sides = np.moveaxis(distances[:, near_rows, near_columns].astype(np.float64), 0, -1)
    low, high = positions - sides[..., :2], positions + sides[..., 2:]
    weights = heat[near_rows, near_columns].astype(np.float64) ** 2
    weights *= inside & _same_person(low, high)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    left_top, right_bottom = ((weights[..., None] * side).sum(axis=1) for side in (low, high))
    boxes = np.concatenate([left_top, right_bottom - left_top], axis=1)
    return boxes, heat[rows, columns].astype(np.float64)


def _same_person(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of n times 9 boxes are of the same person as the first: (n, 9), from corners."""
    boxes = np.concatenate([low, high - low], axis=2)
    same: NDArray[np.bool_] = iou_of_pairs(boxes, boxes[:, :1]) > 0.5
    return same


# Two persons rarely overlap more.
NMS_IOU = 0.5
# The warp interpolates between neighbors only, so an image longer than this many inputs is first
# reduced by averaging.
_MAX_REDUCTION = 2
# The stride of the coarsest branch of the network.
_MULTIPLE = 32


class PersonDetector:
    """A person detector in an ONNX file, as `hrpose export` writes it.

    It returns boxes with a score of at least `threshold`, by default that of the metadata, clipped
    to the image, best first. A score is a probability, see `hrpose.metadata.Confidence`. Raises
    UserError for other files.
    """

    name = "builtin"

    def __init__(
        self,
        path: Path,
        threshold: float | None = None,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._network = open_network(path, "detector", threads, device, precision)
        self.engine = self._network.engine
        self._path = path
        self.metadata = metadata_of(path, DetectorMetadata)
        check_ports(self._network, path, ("heat", "distances"))
        self.input_wh = (self.metadata.side, self.metadata.side)
        self.threshold = self.metadata.threshold if threshold is None else threshold

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The persons in an RGB image (h, w, 3)."""
        pixels, crop = resize(image, self.metadata.side)
        h, w = pixels.shape[0] // 4, pixels.shape[1] // 4
        shapes = {"heat": (1, h, w), "distances": (1, 4, h, w)}
        heat, distances = run_own(self._network, self._path, pixels[None], shapes)
        found = persons(*decode(heat[0], distances[0]), self.metadata.confidence, self.threshold)
        boxes = transform_boxes(found.xywh, crop.inverse_matrix)
        boxes = clip_boxes(boxes, (image.shape[1], image.shape[0]))
        return Boxes(boxes, found.scores)[(boxes[:, 2:] > 0).all(axis=1)]


def persons(
    boxes: NDArray[np.float64],
    peaks: NDArray[np.float64],
    confidence: Confidence,
    threshold: float = 0.0,
) -> Boxes:
    """Each person once, best first, from decoded `boxes` (n, 4) in input pixels and `peaks` (n,).

    Scores are those of `confidence`; those of at least `threshold` remain, after NMS. Training
    chooses the threshold with this function too, so that it fits.
    """
    scores = confidence.scores(peaks, boxes)
    return Boxes(boxes, scores)[scores >= threshold].with_nms(NMS_IOU)


def resize(image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], Crop]:
    """The network's input (h, w, 3), `side` long in the image's aspect ratio, and its crop."""
    wh = (image.shape[1], image.shape[0])
    crop = letterbox(wh, side)
    shrink = _MAX_REDUCTION * side / max(wh)
    if shrink >= 1:
        return warp(image, crop), crop
    size = [max(1, round(length * shrink)) for length in wh]
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return warp(small, Crop.from_box([0, 0, *size], crop.input_wh, padding=1.0)), crop


def letterbox(image_wh: tuple[int, int], side: int) -> Crop:
    """The full image in the center of an input that is `side` long, in its aspect ratio."""
    # In whole numbers, so that the longer side is `side` and not the next multiple.
    width, height = (
        max(1, -(-length * side // (max(image_wh) * _MULTIPLE))) * _MULTIPLE for length in image_wh
    )
    return Crop.from_box([0, 0, *image_wh], (width, height), padding=1.0)
