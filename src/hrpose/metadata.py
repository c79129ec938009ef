"""What travels with weights, so that nobody feeds them the wrong image or reads them wrongly.

`Metadata` goes with pose models, `DetectorMetadata` with person detectors, both as JSON among the
texts that .onnx and .safetensors files carry beside their tensors (`hrpose.model_files`).
`read_metadata` and `write_with_metadata` are the one reader and the one writer of them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.codec import PAPER_CODEC, Codec
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.io import write_atomically
from hrpose.model_files import read_texts, with_texts
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17

# The mean and standard deviation of ImageNet, RGB in [0, 1], as the official code uses them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A crop is made of this size for each person, whoever wrote the metadata.
LARGEST_SIDE = 4096
LARGEST_PADDING = 100.0

# What JSON raises too: at lists in lists in lists, and at numbers that are no finite ones.
BEYOND = (RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes keypoint scores honest: logit(calibrated) = logit(score) / temperature + offset.

    `hrpose analyze` fits it, so that a score is the keypoint similarity to be expected. The order
    of a keypoint's scores stays; 0 and 1 count as 0.001 and 0.999. Raises ValueError where the
    temperature is not positive.
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
        kept = np.clip(np.asarray(scores, np.float64), 1e-3, 1 - 1e-3)
        result: NDArray[np.float64] = np.log(kept / (1 - kept))
        return result

    def then(self, second: "Calibration") -> "Calibration":
        """The one calibration that does this and then `second`."""
        return Calibration(
            self.temperature * second.temperature, self.offset / second.temperature + second.offset
        )


@dataclass(frozen=True, slots=True)
class Metadata:
    """The identity of trained weights.

    `input_wh` in pixels, `padding` the factor around a person's box, `mean` and `std` of RGB in [0,
    1]. `training_data` says in words what the weights were trained on, `license` what that allows,
    `scores` what they reach: figure to value, with the data set in the figure's name.
    `calibration`, where there is one, is applied to the heights of heatmaps to make keypoint
    scores.
    """

    key: ClassVar[str] = "hrpose.passport"
    """Under which a file carries them."""
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

    def __post_init__(self) -> None:
        if not 0 < self.padding <= LARGEST_PADDING:
            raise ValueError(
                f"padding: expected above 0, up to {LARGEST_PADDING:g}, found {self.padding}"
            )
        if min(self.heatmap_wh) < 1:
            raise ValueError(
                f"stride: expected at most the input's {min(self.input_wh)} pixels, "
                f"found {self.codec.stride}"
            )
        check_colors(self.mean, self.std)

    @property
    def title(self) -> str:
        """The name to show: the weights' own, else the network's."""
        return self.name or self.network

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
        # Metadata without a calibration stay as they were before there was one.
        calibration = {} if self.calibration is None else {"calibration": asdict(self.calibration)}
        return json.dumps(
            {
                "version": 1,
                "name": self.name,
                "network": self.network,
                "input_wh": list(self.input_wh),
                "skeleton": self.skeleton.to_dict(),
                "codec": {
                    "name": self.codec.name,
                    "sigma": self.codec.sigma,
                    "stride": self.codec.stride,
                },
                "padding": self.padding,
                "mean": list(self.mean),
                "std": list(self.std),
                "training_data": self.training_data,
                "licence": self.license,
                "scores": dict(self.scores),
                **calibration,
            }
        )

    @classmethod
    def from_json(cls, text: str, where: object = "metadata") -> "Metadata":
        """Read what `to_json` wrote. Raises UserError, naming `where`, for anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["version"] != 1:
                raise ValueError(f"version: expected 1, found {data['version']}")
            codec = data["codec"]
            skeleton = Skeleton.from_dict(data["skeleton"])
            width, height = (int(v) for v in data["input_wh"])
            if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
                raise ValueError(f"input_wh: expected 1 to {LARGEST_SIDE}, found {width}, {height}")
            return cls(
                name=str(data["name"]),
                network=str(data["network"]),
                input_wh=(width, height),
                skeleton=COCO_17 if skeleton == COCO_17 else skeleton,
                codec=Codec(str(codec["name"]), float(codec["sigma"]), int(codec["stride"])),
                padding=float(data["padding"]),
                mean=_three(data["mean"]),
                std=_three(data["std"]),
                training_data=str(data["training_data"]),
                license=str(data["licence"]),
                scores={str(k): float(v) for k, v in data["scores"].items()},
                calibration=_calibration(data.get("calibration")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, *BEYOND) as error:
            raise UserError(
                f"{where}: expected metadata written by hrpose, found {error!r}; "
                "export the weights again"
            ) from error


# A map of centers, and the distances to four sides.
CHANNELS = 5

# Beyond these logits there is nothing but 0 and 1.
_CERTAIN = 100.0


@dataclass(frozen=True, slots=True)
class Confidence:
    """From a center's peak to the probability that its box is a person's (IoU at least 0.5).

    logit(score) = heat * logit(peak) + size * log2(side / 64) + offset, where side is the root of
    the box's area in input pixels: a small box is right more seldom than a large one with the same
    peak. Without numbers of its own the score is the peak.
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
        result: NDArray[np.float64] = 1 / (1 + np.exp(-logits.clip(-_CERTAIN, _CERTAIN)))
        return result


@dataclass(frozen=True, slots=True)
class DetectorMetadata:
    """The identity of a trained person detector.

    `side` is the longer side of the input in pixels, `threshold` the least score of a person, in
    [0, 1], `confidence` how scores are made; the other fields as in `Metadata`.
    """

    key: ClassVar[str] = "hrpose.finder"
    """Another one than a pose model's, so that neither is taken for the other."""
    what: ClassVar[str] = "a person detector"

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

    def __post_init__(self) -> None:
        if not 32 <= self.side <= LARGEST_SIDE or self.side % 32:
            raise ValueError(
                f"side: expected a multiple of 32 up to {LARGEST_SIDE}, found {self.side}"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, found {self.threshold}")
        check_colors(self.mean, self.std)

    def to_json(self) -> str:
        values = asdict(self)
        values["licence"] = values.pop("license")
        return json.dumps({"version": 1, "kind": "detector", **values})

    @classmethod
    def from_json(cls, text: str, where: object = "metadata") -> "DetectorMetadata":
        """Read what `to_json` wrote. Raises UserError, naming `where`, for anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["version"] != 1:
                raise ValueError(f"version: expected 1, found {data['version']}")
            if data["kind"] not in ("detector", "finder"):  # "finder": files of before 0.2
                raise ValueError(f"kind: expected detector, found {data['kind']}")
            (r, g, b), (dr, dg, db) = data["mean"], data["std"]
            return cls(
                network=str(data["network"]),
                side=int(data["side"]),
                threshold=float(data["threshold"]),
                # Older files have none.
                confidence=Confidence(**data.get("confidence", {})),
                mean=(float(r), float(g), float(b)),
                std=(float(dr), float(dg), float(db)),
                name=str(data["name"]),
                training_data=str(data["training_data"]),
                license=str(data["licence"]),
                scores={str(k): float(v) for k, v in data["scores"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, *BEYOND) as error:
            raise UserError(
                f"{where}: expected a person detector's metadata, written by hrpose, found "
                f"{error!r}; export the weights again"
            ) from error


def check_colors(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    """Raises ValueError where RGB cannot be normalized by these."""
    if not all(map(math.isfinite, mean)):
        raise ValueError(f"mean: expected finite numbers, found {mean}")
    if not all(0 < value < math.inf for value in std):
        raise ValueError(f"std: expected numbers above 0, found {std}")


def _calibration(data: Mapping[str, Any] | None) -> Calibration | None:
    """None in metadata from before there were calibrations."""
    if data is None:
        return None
    return Calibration(float(data["temperature"]), float(data["offset"]))


def _three(values: list[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c


AnyMetadata = Metadata | DetectorMetadata
M = TypeVar("M", Metadata, DetectorMetadata)


def read_metadata(path: Path) -> AnyMetadata | None:
    """The metadata in an .onnx or .safetensors file; None where it carries none of hrpose.

    Raises UserError where the file is missing or of another form, and where they are damaged.
    """
    texts = read_texts(path)
    if Metadata.key in texts:
        return Metadata.from_json(texts[Metadata.key], path)
    if DetectorMetadata.key in texts:
        return DetectorMetadata.from_json(texts[DetectorMetadata.key], path)
    return None


def metadata_of(path: Path, kind: type[M]) -> M:
    """The metadata of this kind in a file. Raises UserError where it has none or the other."""
    found = read_metadata(path)
    if isinstance(found, kind):
        return found
    if found is not None:
        raise UserError(
            f"{path}: expected {kind.what}, found {found.what}", code="metadata-of-another-kind"
        )
    raise UserError(
        f"{path}: carries no metadata of hrpose, so what the network takes in and gives out is "
        f"unknown; expected {kind.what} written by `hrpose train`, `hrpose export` or "
        "`hrpose weights convert`",
        code="metadata-missing",
    )


def write_with_metadata(path: Path, content: bytes, metadata: AnyMetadata) -> None:
    """Write weights, the `content` of an .onnx or .safetensors file, with `metadata` to `path`.

    Metadata of hrpose that the content has go; its other texts and its tensors stay as they are.
    Raises UserError where the content is of another form than the name says.
    """
    texts: dict[str, str | None] = {Metadata.key: None, DetectorMetadata.key: None}
    texts[metadata.key] = metadata.to_json()
    write_atomically(path, with_texts(path, content, texts))
