"""Metadata: what travels with weights, so that they are fed and read as they were trained.

`Metadata` goes with pose models, `DetectorMetadata` with person detectors, both as JSON beside the
tensors of .onnx and .safetensors files. `read_metadata` and `write_with_metadata` are the one
reader and the one writer.

Files that hrpose writes have a checksum in them, the sha256 of all other bytes: one flipped bit is
noticed when they are loaded. Files without one, of others or older, are read all the same.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.codec import PAPER_CODEC, Codec
from hrpose.covariance import CovarianceFit, PresenceFit
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.io import read_texts, with_texts, write_atomically
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17

# The mean and standard deviation of ImageNet, RGB in [0, 1], as the official code uses them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The key of a JSON object in ONNX files: the names of the weight and bias tensors of each
# convolution that a BatchNorm was folded into.
FOLDED_KEY = "hrpose.folded"

# The key of the checksum among a file's texts, and the checksum before it is known. The mark is on
# both sides, so that damage to one of them is noticed.
CHECKSUM_KEY = "hrpose.checksum"
_MARK = "sha256.hrpose"
NO_CHECKSUM = f"{_MARK} {'0' * 64} {_MARK}"

# Bounds for untrusted files: a crop of this size is made for each person.
MAX_SIDE = 4096
MAX_PADDING = 100.0

# What reading JSON of any content can raise: nested lists without end, numbers that are not finite.
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
_OPTIONAL = ("calibration", "covariance", "presence", "changes", "distillation")
# Logits beyond this are probabilities of 0 and 1.
_MAX_LOGIT = 100.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of keypoint scores: logit(calibrated) = logit(score) / temperature + offset.

    `hrpose weights calibrate` fits it: a score is the expected keypoint similarity. Their order
    stays; 0 and 1 count as 0.001 and 0.999. Raises ValueError without a temperature above 0.
    """

    temperature: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite([self.temperature, self.offset]).all() and self.temperature > 0):
            raise ValueError(
                "calibration: expected a temperature above 0 and a finite offset, "
                f"found {self.temperature} and {self.offset}"
            )

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores in [0, 1] of any shape, calibrated."""
        z = self.logit(scores) / self.temperature + self.offset
        result: NDArray[np.float64] = 1 / (1 + np.exp(-z))
        return result

    @staticmethod
    def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
        clipped = np.clip(np.asarray(scores, np.float64), 1e-3, 1 - 1e-3)
        result: NDArray[np.float64] = np.log(clipped / (1 - clipped))
        return result


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of a pose model.

    `network` is a name of `hrpose.models.networks.NETWORKS`, `input_wh` its input in pixels,
    `padding` the factor by which a person's box grows, `mean` and `std` those of RGB in [0, 1].
    `training_data` and `license` are sentences, `scores` maps metrics, with the data set in their
    names, to values. A `calibration` is applied to keypoint scores; `covariance` says how uncertain
    keypoints are, `presence` whether they are there. `changes` are the sentences of
    `--resume-with-changes`, `distillation` facts about a teacher (`hrpose.training.teacher`).
    Raises ValueError where values are out of range.
    """

    keys: ClassVar = ("hrpose.metadata", "hrpose.passport")
    """The key of the JSON in a file, and the one of older files."""
    what: ClassVar[str] = "a pose model"

    network: str
    input_wh: tuple[int, int]
    skeleton: Skeleton = COCO_17
    codec: Codec = PAPER_CODEC
    padding: float = 1.25
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    name: str = ""
    training_data: str = "unknown"
    license: str = "unknown"
    scores: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    covariance: CovarianceFit | None = None
    presence: PresenceFit | None = None
    changes: tuple[str, ...] = ()
    distillation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.padding <= MAX_PADDING:
            raise ValueError(
                f"padding: expected above 0, up to {MAX_PADDING:g}, found {self.padding}"
            )
        if min(self.heatmap_wh) < 1:
            raise ValueError(
                f"stride: expected at most the input's {min(self.input_wh)} pixels, "
                f"found {self.codec.stride}"
            )
        _check_normalization(self.mean, self.std)

    @property
    def title(self) -> str:
        """The name to show: that of the weights, else that of the network."""
        return self.name or self.network

    @property
    def channels(self) -> int:
        """The channels of the network's output: one heatmap for each keypoint."""
        return len(self.skeleton)

    @property
    def heatmap_wh(self) -> tuple[int, int]:
        return self.codec.heatmap_wh(self.input_wh)

    def crop(self, box_xywh: ArrayLike) -> Crop:
        """The crop around a person's box [x, y, w, h] that these weights expect."""
        return Crop.from_box(
            box_xywh, self.input_wh, self.padding, unit_lengths=self.codec.unit_lengths
        )

    def keypoint_scores(
        self, peaks: NDArray[np.floating], *, clip: bool = True
    ) -> NDArray[np.float32]:
        """Keypoint scores in [0, 1] from the heights of heatmaps, of any shape.

        Without `clip` and without a calibration, the heights as they are: the official code ranks
        poses by them.
        """
        scores = np.clip(peaks, 0, 1) if clip else np.asarray(peaks)
        if self.calibration is not None:
            scores = self.calibration(scores)
        result: NDArray[np.float32] = scores.astype(np.float32)
        return result

    def to_json(self) -> str:
        return _text(self)

    @classmethod
    def from_json(cls, text: str, where: object = "metadata") -> "Metadata":
        """Read what `to_json` wrote. Raises UserError, naming `where`, for anything else."""
        try:
            data = _document(text)
            codec = data["codec"]
            skeleton = Skeleton.from_dict(data["skeleton"])
            width, height = (int(v) for v in data["input_wh"])
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise ValueError(f"input_wh: expected 1 to {MAX_SIDE}, found {width}, {height}")
            calibration, covariance, presence = map(data.get, _OPTIONAL[:3])
            for part, name in ((covariance, "keypoints"), (presence, "visible_offsets")):
                if part is not None and len(part[name]) != len(skeleton):
                    raise ValueError(f"{name}: expected {len(skeleton)} keypoints")
            return cls(
                input_wh=(width, height),
                skeleton=COCO_17 if skeleton == COCO_17 else skeleton,
                codec=Codec(str(codec["name"]), float(codec["sigma"]), int(codec["stride"])),
                padding=float(data["padding"]),
                calibration=None if calibration is None else Calibration(**calibration),
                covariance=covariance and CovarianceFit(**_numbers(covariance)),
                presence=presence and PresenceFit(**_numbers(presence)),
                distillation=dict(data.get("distillation", {})),
                **_common(data),
            )
        except _DAMAGE as error:
            raise _invalid(cls.what, where, error) from error


@dataclass(frozen=True, slots=True)
class Confidence:
    """From the peak of a center to the probability that its box is a person's (IoU at least 0.5).

    logit(score) = heat * logit(peak) + size * log2(side / 64) + offset, where side is the root of
    the box's area in input pixels: a small box is wrong more often than a large one with the same
    peak. By default the score is the peak. Raises ValueError where `heat` is not positive.
    """

    heat: float = 1.0
    size: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.heat, self.size, self.offset)):
            raise ValueError(f"confidence: expected finite numbers, found {self}")
        if self.heat <= 0:
            raise ValueError(f"confidence.heat: expected more than 0, found {self.heat}")

    @staticmethod
    def features(peaks: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) what `heat`, `size` and `offset` are multiplied with, of peaks (n,) in [0, 1] and
        boxes (n, 4) in input pixels.
        """
        sides = np.sqrt(boxes[:, 2:].prod(axis=1)).clip(1)
        return np.stack(
            [Calibration.logit(peaks), np.log2(sides / 64), np.ones(len(sides))], axis=1
        )

    def scores(self, peaks: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores (n,) in [0, 1]; the same as the peaks where nothing was fitted."""
        if self == Confidence():
            return peaks
        logits = self.features(peaks, boxes) @ (self.heat, self.size, self.offset)
        result: NDArray[np.float64] = 1 / (1 + np.exp(-logits.clip(-_MAX_LOGIT, _MAX_LOGIT)))
        return result


@dataclass(frozen=True, slots=True)
class DetectorMetadata:
    """Metadata of a person detector.

    `side` is the longer side of the input in pixels, `threshold` the least score of a person, in
    [0, 1], `confidence` how scores are made; the other fields are those of `Metadata`.
    """

    keys: ClassVar = ("hrpose.detector", "hrpose.finder")
    """Other keys than a pose model's, so that neither is used as the other."""
    what: ClassVar[str] = "a person detector"
    channels: ClassVar[int] = 5
    """Of the network's output: a map of centers, and the distances to four sides."""

    network: str
    side: int
    threshold: float = 0.3
    confidence: Confidence = Confidence()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    name: str = ""
    training_data: str = "unknown"
    license: str = "unknown"
    scores: Mapping[str, float] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 32 <= self.side <= MAX_SIDE or self.side % 32:
            raise ValueError(f"side: expected a multiple of 32 up to {MAX_SIDE}, found {self.side}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, found {self.threshold}")
        _check_normalization(self.mean, self.std)

    def to_json(self) -> str:
        return _text(self)

    @classmethod
    def from_json(cls, text: str, where: object = "metadata") -> "DetectorMetadata":
        """Read what `to_json` wrote. Raises UserError, naming `where`, for anything else."""
        try:
            data = _document(text)
            return cls(
                side=int(data["side"]),
                threshold=float(data["threshold"]),
                confidence=Confidence(**data.get("confidence", {})),  # older files have none
                **_common(data),
            )
        except _DAMAGE as error:
            raise _invalid(cls.what, where, error) from error


AnyMetadata = Metadata | DetectorMetadata
M = TypeVar("M", Metadata, DetectorMetadata)


def metadata_in(texts: Mapping[str, Any], where: object) -> AnyMetadata | None:
    """The metadata among the texts of a file, by their keys; None if there are none.

    Raises UserError, naming `where`, where they are damaged.
    """
    for kind in (Metadata, DetectorMetadata):
        for key in kind.keys:
            if isinstance(texts.get(key), str):
                return kind.from_json(texts[key], where)
    return None


def read_metadata(path: Path) -> AnyMetadata | None:
    """The metadata in an .onnx or .safetensors file; None if it has none.

    Raises UserError where the file is missing or of another form, and where they are damaged.
    """
    return metadata_in(read_texts(path), path)


def metadata_of(path: Path, kind: type[M]) -> M:
    """The metadata of this kind in a file. Raises UserError where it has none or the other."""
    found = read_metadata(path)
    if isinstance(found, kind):
        return found
    if found is not None:
        raise UserError(
            f"{path}: expected {kind.what}, found {found.what}", code="weights-unsuitable"
        )
    raise UserError(
        f"{path}: carries no metadata of hrpose, so what the network takes in and gives out is "
        f"unknown; expected {kind.what} written by `hrpose train`, `hrpose export` or "
        "`hrpose weights convert`",
        code="metadata-missing",
    )


def write_with_metadata(path: Path, content: bytes, metadata: AnyMetadata | None) -> None:
    """Write weights, the `content` of an .onnx or .safetensors file, with `metadata` to `path`.

    They replace metadata that the content has; its other texts and its tensors stay as they are. A
    checksum is written too. Raises UserError where the content is of another form than the name
    says.
    """
    texts: dict[str, str | None] = dict.fromkeys((*Metadata.keys, *DetectorMetadata.keys))
    if metadata is not None:
        texts[metadata.keys[0]] = metadata.to_json()
    texts[CHECKSUM_KEY] = NO_CHECKSUM
    write_atomically(path, with_checksum(with_texts(path, content, texts)))


def with_checksum(content: bytes) -> bytearray:
    """The content of a file, with the checksum of all other bytes in place of its `NO_CHECKSUM`.

    Raises UserError where it has more of its marks.
    """
    if content.count(_MARK.encode()) != 2:
        raise UserError(
            f"expected weights without the text '{_MARK}', which marks a checksum, found it",
            code="weights-unsuitable",
        )
    start = content.find(NO_CHECKSUM.encode()) + len(_MARK) + 1
    written = bytearray(content)
    written[start : start + 64] = hashlib.sha256(content).hexdigest().encode()
    return written


def checksum_holds(path: Path) -> bool | None:
    """Whether a file's bytes have the checksum in it; None where it has none, or is empty.

    Raises OSError where it cannot be read.
    """
    mark = _MARK.encode()
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(mark)
            if at < 0:
                return None
            start, end = at + len(mark) + 1, at + len(NO_CHECKSUM) - len(mark) - 1
            with memoryview(content) as view, view[:start] as before, view[end:] as after:
                hasher = hashlib.sha256(before)
                hasher.update(b"0" * 64)
                hasher.update(after)
            return content[start:end] == hasher.hexdigest().encode()


def check_weights(path: Path) -> None:
    """Raises UserError where the checksum in weights, a regular file, is not that of its bytes."""
    try:
        damaged = path.is_file() and checksum_holds(path) is False
    except OSError:
        return  # Whoever reads it says so.
    if damaged:
        raise UserError(
            f"{path}: damaged, its bytes do not have the sha256 that is in it; copy it here again "
            f"(where a program has changed it on purpose, remove its text '{CHECKSUM_KEY}')",
            code="weights-damaged",
        )


def is_detector(path: Path) -> bool:
    """Whether a file says that it is a person detector; False where it cannot be read."""
    try:
        return not read_texts(path).keys().isdisjoint(DetectorMetadata.keys)
    except UserError:
        return False


def _check_normalization(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    """Raises ValueError where RGB cannot be normalized by these."""
    if not all(map(math.isfinite, mean)):
        raise ValueError(f"mean: expected finite numbers, found {mean}")
    if not all(0 < value < math.inf for value in std):
        raise ValueError(f"std: expected numbers above 0, found {std}")


def _text(metadata: AnyMetadata) -> str:
    """The JSON of metadata, without what there is none of."""
    values = {name: v for name, v in asdict(metadata).items() if v or name not in _OPTIONAL}
    return json.dumps({"version": 1, **values})


def _numbers(values: Any) -> Any:
    """Objects and lists of numbers, as objects and tuples of floats."""
    if isinstance(values, dict):
        return {name: _numbers(value) for name, value in values.items()}
    return tuple(map(_numbers, values)) if isinstance(values, list) else float(values)


def _document(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    if document["version"] != 1:
        raise ValueError(f"version: expected 1, found {document['version']}")
    return document


def _common(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that both kinds of metadata have."""
    (r, g, b), (r_std, g_std, b_std) = data["mean"], data["std"]
    return {
        "network": str(data["network"]),
        "mean": (float(r), float(g), float(b)),
        "std": (float(r_std), float(g_std), float(b_std)),
        "name": str(data["name"]),
        "training_data": str(data["training_data"]),
        "license": str(data["license"] if "license" in data else data["licence"]),  # older files
        "changes": tuple(map(str, data.get("changes", ()))),
        "scores": {str(name): float(value) for name, value in data["scores"].items()},
    }


def _invalid(what: str, where: object, error: Exception) -> UserError:
    return UserError(
        f"{where}: expected the metadata of {what} as hrpose writes them, found {error!r}; "
        "export the weights again",
        code="metadata-invalid",
    )
