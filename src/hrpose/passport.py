"""What weights must carry so that nobody feeds them the wrong picture or reads them wrongly.

The passport travels as JSON in the metadata of safetensors and ONNX files and in result files.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.codec import PAPER_CODEC, Codec
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.skeleton import COCO_17, Skeleton

METADATA_KEY = "hrpose.passport"

# The mean and standard deviation of ImageNet, RGB in [0, 1], as the official code uses them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A crop is made of this size for each person, whoever wrote the passport.
LARGEST_SIDE = 4096
LARGEST_PADDING = 100.0

# What JSON raises too: at lists in lists in lists, and at numbers that are no finite ones.
BEYOND = (RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes joint scores honest: logit(calibrated) = logit(score) / temperature + offset.

    `hrpose analyze` fits it, so that a score is the keypoint similarity to be expected. The order
    of a joint's scores stays; 0 and 1 count as 0.001 and 0.999. Raises ValueError where the
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
class Passport:
    """The identity of trained weights.

    `input_wh` in pixels, `padding` the factor around a person's box, `mean` and `std` of RGB in
    [0, 1]. `training_data` says in words what the weights were trained on, `licence` what that
    allows, `scores` what they reach: figure to value, with the data set in the figure's name.
    `calibration`, where there is one, is applied to the heights of heatmaps to make joint scores.
    """

    network: str
    input_wh: tuple[int, int]
    skeleton: Skeleton = COCO_17
    codec: Codec = PAPER_CODEC
    padding: float = 1.25
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    name: str = ""
    training_data: str = "unknown"
    licence: str = "unknown"
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
        check_colours(self.mean, self.std)

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

    def joint_scores(
        self, peaks: NDArray[np.floating], *, clip: bool = True
    ) -> NDArray[np.float32]:
        """Joint scores in [0, 1] from the heights of heatmaps, of any shape.

        Without `clip` and without a calibration, the heights as they are: the official code ranks
        poses by them.
        """
        scores = np.clip(peaks, 0, 1) if clip else np.asarray(peaks)
        if self.calibration is not None:
            scores = self.calibration(scores)
        result: NDArray[np.float32] = scores.astype(np.float32)
        return result

    def to_json(self) -> str:
        # Passports without a calibration stay as they were before there was one.
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
                "licence": self.licence,
                "scores": dict(self.scores),
                **calibration,
            }
        )

    @classmethod
    def from_json(cls, text: str, where: object = "passport") -> "Passport":
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
                licence=str(data["licence"]),
                scores={str(k): float(v) for k, v in data["scores"].items()},
                calibration=_calibration(data.get("calibration")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, *BEYOND) as error:
            raise UserError(
                f"{where}: expected a passport written by hrpose, found {error!r}; "
                "export the weights again"
            ) from error


def check_colours(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    """Raises ValueError where RGB cannot be normalised by these."""
    if not all(map(math.isfinite, mean)):
        raise ValueError(f"mean: expected finite numbers, found {mean}")
    if not all(0 < value < math.inf for value in std):
        raise ValueError(f"std: expected numbers above 0, found {std}")


def _calibration(data: Mapping[str, Any] | None) -> Calibration | None:
    """None in passports from before there were calibrations."""
    if data is None:
        return None
    return Calibration(float(data["temperature"]), float(data["offset"]))


def _three(values: list[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
