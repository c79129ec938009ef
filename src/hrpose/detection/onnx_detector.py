"""Detectors of other projects as ONNX files: YOLOX, RTMDet, the DETR family, torchvision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.geometry import Boxes, xyxy_to_xywh
from hrpose.session import open_network

Array = NDArray[Any]
# Outputs and the input's (w, h) to boxes (n, 4) x1, y1, x2, y2 in input pixels and scores (n,).
Reader = Callable[[Sequence[Array], tuple[int, int]], tuple[Array, Array]]

# Mean and standard deviation of ImageNet, RGB in [0, 255].
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Layout:
    """The input and output format of one kind of detector.

    The input is RGB, or BGR with `bgr`, minus `mean`, over `std` (both for RGB in [0, 255]). With
    `stretched` the image fills the input, else it keeps its aspect ratio in the upper left corner,
    on gray. With `overlapping` one person has many boxes, which need NMS.
    """

    name: str
    read: Reader
    bgr: bool = False
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)
    stretched: bool = False
    overlapping: bool = False


def recognize(
    outputs: Sequence[Array], input_wh: tuple[int, int], *, asks_for_size: bool, plain: bool
) -> Layout | None:
    """The layout of a detector with these outputs; None where it is unknown.

    `asks_for_size`: its second input is the image's size. `plain` decides what outputs cannot
    show: a detector of OpenMMLab takes pixels as they are (YOLOX), not normalized (RTMDet).
    """
    if len(outputs) == 1:
        return _grids(outputs[0].shape, input_wh)
    if len(outputs) == 2 and sorted(output.ndim for output in outputs) == [2, 3]:
        return _scored_boxes(outputs, plain)
    if len(outputs) == 2:
        return _queries(outputs)
    if len(outputs) == 3:
        return _final(outputs, asks_for_size)
    return None


def _grids(shape: tuple[int, ...], input_wh: tuple[int, int]) -> Layout | None:
    """YOLOX: (1, cells, 5 + classes), with the cells of its grids of all strides."""
    if len(shape) != 3 or shape[0] != 1 or shape[2] < 6:
        return None
    for strides in ((8, 16, 32), (8, 16, 32, 64)):
        if shape[1] == sum((input_wh[0] // s) * (input_wh[1] // s) for s in strides):
            return Layout(
                "YOLOX", partial(_read_grids, strides=strides), bgr=True, overlapping=True
            )
    return None


def _read_grids(
    outputs: Sequence[Array], input_wh: tuple[int, int], strides: tuple[int, ...]
) -> tuple[Array, Array]:
    """Per cell: center from the cell's corner and log of size, in cells; objectness; classes."""
    (cells,) = outputs[0].astype(np.float64)
    corners, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: input_wh[1] // stride, : input_wh[0] // stride]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((x.size, 1), stride))
    step = np.concatenate(steps)
    center = (cells[:, :2] + np.concatenate(corners)) * step
    # Bounded, so that a broken model does not overflow.
    size = np.exp(np.minimum(cells[:, 2:4], 20)) * step
    return _corners(center, size), cells[:, 4] * cells[:, 5]


def _scored_boxes(outputs: Sequence[Array], plain: bool) -> Layout | None:
    """OpenMMLab: (1, n, 5) corners and score in input pixels, and labels (1, n)."""
    boxes = 0 if outputs[0].ndim == 3 else 1
    if outputs[boxes].shape != (*outputs[1 - boxes].shape, 5) or len(outputs[boxes]) != 1:
        return None
    read = partial(_read_scored_boxes, boxes=boxes)
    if plain:
        return Layout("YOLOX of OpenMMLab", read, bgr=True)
    return Layout("RTMDet", read, bgr=True, mean=MEAN, std=STD)


def _read_scored_boxes(
    outputs: Sequence[Array], input_wh: tuple[int, int], boxes: int
) -> tuple[Array, Array]:
    persons = outputs[boxes][outputs[1 - boxes] == 0]
    return persons[:, :4], persons[:, 4]


def _queries(outputs: Sequence[Array]) -> Layout | None:
    """DETR: (1, q, 4) center and size in [0, 1], and logits (1, q, classes)."""
    boxes = [i for i, output in enumerate(outputs) if output.ndim == 3 and output.shape[2] == 4]
    if not boxes or outputs[0].shape[:2] != outputs[1].shape[:2] or len(outputs[0]) != 1:
        return None
    read = partial(_read_queries, boxes=boxes[0])
    # RT-DETR is recognized by COCO's 80 classes without gaps; it takes pixels in [0, 1].
    if outputs[1 - boxes[0]].shape[2] == 80:
        return Layout("RT-DETR", read, std=(255, 255, 255), stretched=True)
    return Layout("DETR", read, mean=MEAN, std=STD, stretched=True)


def _read_queries(
    outputs: Sequence[Array], input_wh: tuple[int, int], boxes: int
) -> tuple[Array, Array]:
    (box,), (logits,) = outputs[boxes].astype(np.float64), outputs[1 - boxes].astype(np.float64)
    classes = logits.shape[1]
    if classes == 92:  # DETR itself: one of all classes, of which the last is "nothing"
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    else:
        scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    # About 90 columns are COCO's category numbers, in which a person is 1.
    person = 1 if classes in (90, 91, 92) else 0
    return _corners(box[:, :2] * input_wh, box[:, 2:] * input_wh), scores[:, person]


def _final(outputs: Sequence[Array], asks_for_size: bool) -> Layout | None:
    """End-to-end: corners (n, 4) in input pixels, integers (n,) as labels, and scores (n,)."""
    # With or without a batch dimension.
    batch = any(output.ndim == 3 for output in outputs)
    if batch and any(len(output) != 1 for output in outputs):
        return None
    parts = [output[0] if batch else output for output in outputs]
    boxes = [i for i, part in enumerate(parts) if part.ndim == 2 and part.shape[1] == 4]
    labels = [i for i, part in enumerate(parts) if part.ndim == 1 and part.dtype.kind in "iu"]
    scores = [i for i, part in enumerate(parts) if part.ndim == 1 and part.dtype.kind == "f"]
    if not (len(boxes) == len(labels) == len(scores) == 1):
        return None
    if len({len(part) for part in parts}) != 1:
        return None
    order = (boxes[0], labels[0], scores[0])
    # Torchvision counts COCO's categories from 1, the DETR family its classes from 0.
    read = partial(_read_final, order=order, person=0 if asks_for_size else 1)
    name = "end-to-end DETR" if asks_for_size else "torchvision"
    return Layout(name, read, std=(255, 255, 255), stretched=asks_for_size)


def _read_final(
    outputs: Sequence[Array], input_wh: tuple[int, int], order: tuple[int, int, int], person: int
) -> tuple[Array, Array]:
    boxes, labels, scores = (outputs[i] for i in order)
    persons = labels.ravel() == person
    return boxes.reshape(-1, 4)[persons], scores.ravel()[persons]


def _corners(center: Array, size: Array) -> Array:
    return np.concatenate([center - size / 2, center + size / 2], axis=1)


# The input of models that take any size: most detectors were trained with it.
DEFAULT_WH = (640, 640)
GRAY = 114
# Boxes of one person overlap more than this, those of two persons rarely.
NMS_IOU = 0.65
_FLOATS = (np.float32, np.float16)


class OnnxDetector:
    """An ONNX detector, whose kind is recognized by the shapes of its outputs.

    It returns persons' boxes with a score of at least `threshold`, clipped to the image, best
    first. Raises UserError for a file that is not an ONNX model of a known kind.
    """

    def __init__(
        self,
        path: Path,
        threshold: float = 0.4,
        threads: int | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._opened = (path, threshold, threads, device, precision)
        self._network = open_network(path, "detector", threads, device, precision)
        self.engine = self._network.engine
        self.threshold = threshold
        self._inputs = self._network.inputs
        self.input_wh = self._size_of_input(path)
        self._layout = self._recognize(path)
        self.name = f"{path.name} ({self._layout.name})"

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The persons in an RGB image (h, w, 3)."""
        pixels, scale = resize(image, self.input_wh, self._layout.stretched)
        xyxy, scores = self._layout.read(self._run(prepare(pixels, self._layout)), self.input_wh)
        height, width = image.shape[:2]
        corners = xyxy.astype(np.float64).reshape(-1, 4) / np.tile(scale, 2)
        boxes = xyxy_to_xywh(corners.clip(0, (width, height, width, height)))
        # Written so that NaN is left out too.
        good = (scores >= self.threshold) & (boxes[:, 2:] > 0).all(axis=1)
        good &= np.isfinite(boxes).all(axis=1)
        found = Boxes(boxes[good], scores[good].astype(np.float64).clip(0, 1))
        if self._layout.overlapping:
            return found.with_nms(NMS_IOU)
        return found.best(len(found))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the file again."""
        return type(self), self._opened

    def _size_of_input(self, path: Path) -> tuple[int, int]:
        """(w, h): the model's own, or the usual one where it takes any."""
        image, *others = self._inputs
        channels = image.shape[-3] if len(image.shape) in (3, 4) else 1
        size_alone = len(others) == 0 or (len(others) == 1 and len(others[0].shape) == 2)
        if not size_alone or (_fixed(channels) or 3) != 3 or image.dtype not in _FLOATS:
            found = ", ".join(f"{entry.dtype} {list(entry.shape)}" for entry in self._inputs)
            raise UserError(
                f"{path}: expected a detector with one input of floats (1, 3, h, w), found {found}",
                code="detector-unsuitable",
            )
        height, width = image.shape[-2:]
        return _fixed(width) or DEFAULT_WH[0], _fixed(height) or DEFAULT_WH[1]

    def _recognize(self, path: Path) -> Layout:
        # Declared shapes often have free lengths; those of actual outputs have none.
        width, height = self.input_wh
        try:
            outputs = self._run(np.full((1, 3, height, width), GRAY, np.float32))
        except Exception as error:  # ONNX Runtime's exceptions have no common public base.
            first = str(error).split("\n")[0]
            raise UserError(
                f"{path}: expected an ONNX detector, it fails with: {first}",
                code="detector-unsuitable",
            ) from error
        layout = recognize(
            outputs,
            self.input_wh,
            asks_for_size=len(self._inputs) == 2,
            plain="yolox" in path.name.lower(),
        )
        if layout is None:
            names = [output.name for output in self._network.outputs]
            shapes = ", ".join(
                f"{name} {output.shape}" for name, output in zip(names, outputs, strict=True)
            )
            raise UserError(
                f"{path}: expected the outputs of YOLOX, RTMDet, DETR or torchvision, found "
                f"{shapes} for an image of {width} x {height}; give the boxes with --boxes",
                code="detector-unsuitable",
            )
        return layout

    def _run(self, image: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        entry = self._inputs[0]
        tensor = image.astype(entry.dtype)
        if len(entry.shape) == 3:
            tensor = tensor[0]
        feeds: dict[str, NDArray[Any]] = {entry.name: tensor}
        if len(self._inputs) == 2:
            # The size of the input, so that boxes are in its pixels.
            feeds[self._inputs[1].name] = np.array([self.input_wh], np.int64)
        return self._network(feeds)


def _fixed(size: object) -> int:
    """A declared length; 0 where it is free."""
    return size if isinstance(size, int) and size > 0 else 0


def resize(
    image: NDArray[np.uint8], input_wh: tuple[int, int], stretched: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The image resized to an input of `input_wh`, and the scale (x, y): input over image pixels.

    `stretched` fills the input; else the image keeps its aspect ratio in the upper left corner, on
    gray.
    """
    size = np.array([image.shape[1], image.shape[0]])
    target = np.array(input_wh)
    if not stretched:
        target = np.maximum(np.rint(size * (target / size).min()).astype(int), 1)
    resized = cv2.resize(image, target.tolist(), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((input_wh[1], input_wh[0], 3), GRAY, np.uint8)
    canvas[: target[1], : target[0]] = resized
    return canvas, target / size


def prepare(pixels: NDArray[np.uint8], layout: Layout) -> NDArray[np.float32]:
    """(h, w, 3) uint8 RGB to the input (1, 3, h, w) of a detector of this layout."""
    mean, std = (np.asarray(three, np.float32) for three in (layout.mean, layout.std))
    normal = (pixels.astype(np.float32) - mean) / std
    planes = normal[..., ::-1] if layout.bgr else normal
    return np.ascontiguousarray(planes.transpose(2, 0, 1)[None])
