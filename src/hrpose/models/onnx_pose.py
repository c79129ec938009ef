"""Pose models of any program in ONNX files: crops to keypoints, recognized by shapes.

A pose model takes the crop of one person. From it come heatmaps, one for each keypoint, or two
vectors for each keypoint, along x and along y (SimCC: Li et al., ECCV 2022; RTMPose). Which of both
is told by the shapes of the outputs, as `hrpose.detection.onnx_detector` does it with detectors.
What shapes do not tell is in `Conventions`; the defaults are those of MMPose's models.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.io import read_texts
from hrpose.metadata import IMAGENET_MEAN, IMAGENET_STD, MAX_SIDE, Metadata, read_metadata
from hrpose.session import Network, Port, open_network, open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, HALPE_26, MPII_16, WHOLEBODY_133

# The skeletons that a number of keypoints means, where nobody says another.
USUAL = {len(each): each for each in (COCO_17, MPII_16, HALPE_26, WHOLEBODY_133)}
_FLOATS = (np.float32, np.float16)
# Bounds for files of strangers, whose shapes decide how much is computed.
MAX_KEYPOINTS, MAX_BINS = 1000, 8 * MAX_SIDE

# The key of the model's metadata in files for rtmlib (`hrpose.models.rtmlib`). Under hrpose's own,
# they would be taken for files with its inputs and outputs.
SOURCE_KEY = "hrpose.source"

# Decodes well what any Gaussian targets taught.
DARK = Codec("dark", 2.0)

Kind = Literal["heatmaps", "simcc"]


class PoseModel(Protocol):
    """A network that finds the keypoints of the person in a crop."""

    @property
    def metadata(self) -> Metadata:
        """Its name, keypoints and input size, and how a box becomes its crop."""
        ...

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """uint8 RGB crops (n, h, w, 3) of the input size to points (n, k, 2) in pixels of the crop,
        and scores (n, k).
        """
        ...


@dataclass(frozen=True, slots=True)
class Conventions:
    """What the shapes of a file do not tell.

    `skeleton` None is the usual one of that many keypoints, `input_wh` None the file's own size.
    `padding` is the factor by which a person's box grows, `mean` and `std` are those of RGB in
    [0, 1], `bgr` turns the order of the colors around. `codec` decodes heatmaps, and says whether
    lengths are counted between pixel centers (`udp`, as ViTPose does). `license` is a sentence.
    """

    skeleton: Skeleton | None = None
    input_wh: tuple[int, int] | None = None
    padding: float = 1.25
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False
    codec: Codec = DARK
    license: str = "unknown"


USUAL_CONVENTIONS = Conventions()


def open_pose_model(
    path: Path,
    conventions: Conventions = USUAL_CONVENTIONS,
    threads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> PoseModel:
    """Open a pose model: one with metadata of hrpose, or any ONNX file of a known kind.

    Files with metadata need no `conventions`. The other arguments are those of `open_session`.
    Raises UserError for a file that is missing or of no known kind, and for conventions that a file
    with metadata does not follow.
    """
    if path.suffix != ".onnx" or isinstance(read_metadata(path), Metadata):
        if conventions != USUAL_CONVENTIONS:
            raise UserError(
                f"{path}: says its skeleton, input and codec itself, so that conventions have no "
                "effect on it; leave them out",
                code="option-conflict",
            )
        return PoseEstimator(open_session(path, threads, device, precision))
    if SOURCE_KEY in read_texts(path):
        raise UserError(
            f"{path}: expected a pose model, found one that `hrpose export --for rtmlib` made for "
            "rtmlib, whose colors are in another order; name the weights that it was made from",
            code="weights-unsuitable",
        )
    network = open_network(path, "pose model", threads, device, precision)
    return OnnxPose(path, network, conventions)


class OnnxPose:
    """A pose model of another program.

    Raises UserError where its input and outputs are not those of a pose model, and where nobody
    says what its keypoints are.
    """

    def __init__(self, path: Path, network: Network, conventions: Conventions) -> None:
        self._path, self._network, self._conventions = path, network, conventions
        self._input = _image_input(path, network)
        size = conventions.input_wh or _size(self._input)
        if size is None:
            raise UserError(
                f"{path}: takes images of any size; say which size it was trained with: input_wh",
                code="weights-unsuitable",
            )
        outputs = self._run(np.zeros((1, size[1], size[0], 3), np.uint8))
        self.kind, self._at = self._recognized(outputs, size)
        count = outputs[self._at[0]].shape[1]
        skeleton = conventions.skeleton or USUAL.get(count)
        if skeleton is None or len(skeleton) != count:
            found = f"a skeleton of {len(skeleton)}" if skeleton else "none that usually has them"
            raise UserError(
                f"{path}: expected the skeleton of its {count} keypoints, found {found}; name it: "
                "skeleton",
                code="keypoints-differ",
            )
        stride = size[0] // outputs[self._at[0]].shape[-1] if self.kind == "heatmaps" else 1
        codec = conventions.codec if self.kind == "heatmaps" else Codec("gaussian")
        self.metadata = Metadata(
            network=self.kind,
            input_wh=size,
            skeleton=skeleton,
            codec=Codec(codec.name, codec.sigma, stride),
            padding=conventions.padding,
            mean=conventions.mean,
            std=conventions.std,
            name=path.stem,
            license=conventions.license,
        )

    def keypoints(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """See `PoseModel`. Scores are clipped to [0, 1]."""
        found = self._run(crops)
        parts = [found[at].astype(np.float32) for at in self._at]
        if any(not np.isfinite(part).all() for part in parts):
            raise self._refused("finite numbers", "NaN or infinity in its outputs")
        if self.kind == "heatmaps":
            points, scores = self.metadata.codec.decode(parts[0])
        else:
            points, scores = decode_simcc(parts[0], parts[1], self.metadata.input_wh)
        return points.astype(np.float64), np.clip(scores, 0, 1).astype(np.float32)

    def _run(self, crops: NDArray[np.uint8]) -> list[NDArray[Any]]:
        given = self._conventions
        mean, std = (np.array(values, np.float32) for values in (given.mean, given.std))
        normalized = (crops.astype(np.float32) / 255 - mean) / std
        if given.bgr:
            normalized = normalized[..., ::-1]
        images = np.ascontiguousarray(normalized.transpose(0, 3, 1, 2), self._input.dtype)
        batch = self._input.shape[0]
        # Files of a fixed batch, mostly of 1, are run so many times.
        step = batch if isinstance(batch, int) and 0 < batch < len(images) else len(images)
        try:
            parts = [
                self._network({self._input.name: images[start : start + step]})
                for start in range(0, len(images), step)
            ]
        except MemoryError:
            raise
        except Exception as error:  # The engines' exceptions have no common public base.
            reason = " ".join(str(error).split())[:300]
            raise self._refused(
                f"a pose model that runs on images {images.shape}", reason
            ) from error
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _recognized(
        self, outputs: list[NDArray[Any]], size: tuple[int, int]
    ) -> tuple[Kind, tuple[int, ...]]:
        """The kind of the outputs, and which of them they are."""
        shapes = [output.shape for output in outputs]
        maps = tuple(at for at, shape in enumerate(shapes) if _is_heatmaps(shape, size))
        if len(maps) == 1:
            return "heatmaps", maps
        vectors = [at for at, shape in enumerate(shapes) if len(shape) == 3]
        if len(vectors) == 2 and _are_simcc(shapes[vectors[0]], shapes[vectors[1]], size):
            return "simcc", tuple(vectors)
        found = ", ".join(
            f"{port.name} {list(shape)}"
            for port, shape in zip(self._network.outputs, shapes, strict=True)
        )
        raise self._refused(
            "heatmaps (n, k, h, w), or two vectors for each keypoint, (n, k, w) and (n, k, h), "
            f"of an image of {size[0]} x {size[1]}",
            found or "none",
        )

    def _refused(self, expected: str, found: str) -> UserError:
        return UserError(
            f"{self._path}: expected {expected}, found {found}", code="weights-unsuitable"
        )


def _image_input(path: Path, network: Network) -> Port:
    images, *more = network.inputs
    if more or images.dtype not in _FLOATS or len(images.shape) != 4 or images.shape[1] != 3:
        found = ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in network.inputs)
        raise UserError(
            f"{path}: expected a pose model with one input of floats (n, 3, h, w), found {found}",
            code="weights-unsuitable",
        )
    return images


def _size(port: Port) -> tuple[int, int] | None:
    height, width = port.shape[2:]
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return (width, height) if max(width, height) <= MAX_SIDE else None
    return None


def _is_heatmaps(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether this is one map for each keypoint, smaller than the image by one whole factor."""
    if len(shape) != 4 or not 0 < shape[1] <= MAX_KEYPOINTS or min(shape[2:]) < 2:
        return False
    strides = size[0] / shape[3], size[1] / shape[2]
    return strides[0] == strides[1] and strides[0].is_integer()


def _are_simcc(x: tuple[int, ...], y: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether these are two vectors of the same keypoints, as fine along x as along y."""
    bins = x[2] / size[0], y[2] / size[1]
    return (
        x[1] == y[1]
        and 0 < x[1] <= MAX_KEYPOINTS
        and bins[0] == bins[1] >= 1
        and (max(x[2], y[2]) <= MAX_BINS)
    )


def decode_simcc(
    along_x: NDArray[np.float32], along_y: NDArray[np.float32], input_wh: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The highest bins of two vectors, (n, k, w') and (n, k, h'), as points and scores.

    Points (n, k, 2) are in pixels of the input `input_wh`, of which each has w' / w bins. Scores
    (n, k) are the lower of both maxima, as in MMPose; where it is not above 0 the point is (0, 0).
    """
    bins = along_x.shape[-1] / input_wh[0], along_y.shape[-1] / input_wh[1]
    points = np.stack([along_x.argmax(-1) / bins[0], along_y.argmax(-1) / bins[1]], axis=-1)
    scores = np.minimum(along_x.max(-1), along_y.max(-1))
    return np.where(scores[..., None] > 0, points, 0.0), scores
