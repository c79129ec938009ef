"""Somebody else's detector as an ONNX file: YOLOX, RTMDet, the DETR family, torchvision's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.detection.detector import Boxes
from hrpose.detection.layouts import Layout, recognise
from hrpose.errors import UserError
from hrpose.geometry import xyxy_to_xywh
from hrpose.session import open_network

# Where a model takes any size: what most detectors were trained with.
USUAL_WH = (640, 640)
GREY = 114
# Boxes of one person overlap more than this, those of two people rarely.
SAME_PERSON_IOU = 0.65
_FLOATS = (np.float32, np.float16)


class OnnxDetector:
    """People by an ONNX detector, whose kind is recognised by the shapes of its outputs.

    Boxes with a score of at least `threshold`, cut at the picture's edges, best first. Raises
    UserError for a file that is no ONNX model, or none of the known kinds.
    """

    def __init__(self, path: Path, threshold: float = 0.4, threads: int | None = None) -> None:
        self._network = open_network(path, "detector", threads)
        self.threshold = threshold
        self._inputs = self._network.inputs
        self.input_wh = self._size_of_input(path)
        self._layout = self._recognise(path)
        self.name = f"{path.name} ({self._layout.name})"

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The people in an RGB picture (h, w, 3)."""
        pixels, scale = place(image, self.input_wh, self._layout.stretched)
        xyxy, scores = self._layout.read(self._run(prepare(pixels, self._layout)), self.input_wh)
        height, width = image.shape[:2]
        corners = xyxy.astype(np.float64).reshape(-1, 4) / np.tile(scale, 2)
        boxes = xyxy_to_xywh(corners.clip(0, (width, height, width, height)))
        # Said so that NaN is left out too.
        good = (scores >= self.threshold) & (boxes[:, 2:] > 0).all(axis=1)
        good &= np.isfinite(boxes).all(axis=1)
        found = Boxes(boxes[good], scores[good].astype(np.float64).clip(0, 1))
        if self._layout.overlapping:
            return found.with_nms(SAME_PERSON_IOU)
        return found.best(len(found))

    def _size_of_input(self, path: Path) -> tuple[int, int]:
        """(w, h): the model's own, or the usual one where it takes any."""
        picture, *others = self._inputs
        channels = picture.shape[-3] if len(picture.shape) in (3, 4) else 1
        size_alone = len(others) == 0 or (len(others) == 1 and len(others[0].shape) == 2)
        if not size_alone or (_fixed(channels) or 3) != 3 or picture.dtype not in _FLOATS:
            found = ", ".join(f"{entry.dtype} {list(entry.shape)}" for entry in self._inputs)
            raise UserError(
                f"{path}: expected a detector with one input of floats (1, 3, h, w), found {found}"
            )
        height, width = picture.shape[-2:]
        return _fixed(width) or USUAL_WH[0], _fixed(height) or USUAL_WH[1]

    def _recognise(self, path: Path) -> Layout:
        # Declared shapes often have gaps; those of a picture have none.
        width, height = self.input_wh
        try:
            outputs = self._run(np.full((1, 3, height, width), GREY, np.float32))
        except Exception as error:  # ONNX Runtime's exceptions have no common public base.
            first = str(error).split("\n")[0]
            raise UserError(f"{path}: expected an ONNX detector, it fails with: {first}") from error
        layout = recognise(
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
                f"{shapes} for a picture of {width} x {height}; give the boxes with --boxes"
            )
        return layout

    def _run(self, picture: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        entry = self._inputs[0]
        tensor = picture.astype(entry.dtype)
        if len(entry.shape) == 3:
            tensor = tensor[0]
        fed: dict[str, NDArray[Any]] = {entry.name: tensor}
        if len(self._inputs) == 2:
            # Said to be as large as the input, so that boxes come in its pixels.
            fed[self._inputs[1].name] = np.array([self.input_wh], np.int64)
        return self._network(fed)


def _fixed(size: object) -> int:
    """A declared size; 0 where it is free."""
    return size if isinstance(size, int) and size > 0 else 0


def place(
    image: NDArray[np.uint8], input_wh: tuple[int, int], stretched: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture on an input of `input_wh`, and its scale (x, y): input over picture pixels.

    `stretched` to fill it, else in its proportions in the upper left corner, on grey.
    """
    size = np.array([image.shape[1], image.shape[0]])
    target = np.array(input_wh)
    if not stretched:
        target = np.maximum(np.rint(size * (target / size).min()).astype(int), 1)
    resized = cv2.resize(image, target.tolist(), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((input_wh[1], input_wh[0], 3), GREY, np.uint8)
    canvas[: target[1], : target[0]] = resized
    return canvas, target / size


def prepare(pixels: NDArray[np.uint8], layout: Layout) -> NDArray[np.float32]:
    """(h, w, 3) uint8 RGB to the (1, 3, h, w) that a detector of this layout wants."""
    mean, std = (np.asarray(three, np.float32) for three in (layout.mean, layout.std))
    normal = (pixels.astype(np.float32) - mean) / std
    planes = normal[..., ::-1] if layout.bgr else normal
    return np.ascontiguousarray(planes.transpose(2, 0, 1)[None])
