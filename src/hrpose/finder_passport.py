"""What a finder's weights carry, so that they are fed and read as they were trained."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.passport import (
    BEYOND,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGEST_SIDE,
    Calibration,
    check_colours,
)

# Another one than a pose network's, so that neither is taken for the other.
FINDER_KEY = "hrpose.finder"
# A map of centres, and the distances to four sides.
CHANNELS = 5

# Beyond these logits there is nothing but 0 and 1.
_CERTAIN = 100.0


@dataclass(frozen=True, slots=True)
class Confidence:
    """From a centre's peak to the probability that its box is a person's (IoU at least 0.5).

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
class FinderPassport:
    """The identity of a trained finder of people.

    `side` is the longer side of the input in pixels, `threshold` the least score of a person, in
    [0, 1], `confidence` how scores are made; the other fields as in `hrpose.passport.Passport`.
    """

    network: str
    side: int
    threshold: float = 0.3
    confidence: Confidence = Confidence()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    name: str = ""
    training_data: str = "unknown"
    licence: str = "unknown"
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 32 <= self.side <= LARGEST_SIDE or self.side % 32:
            raise ValueError(
                f"side: expected a multiple of 32 up to {LARGEST_SIDE}, found {self.side}"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: expected 0 to 1, found {self.threshold}")
        check_colours(self.mean, self.std)

    def to_json(self) -> str:
        return json.dumps({"version": 1, "kind": "finder", **asdict(self)})

    @classmethod
    def from_json(cls, text: str, where: object = "passport") -> "FinderPassport":
        """Read what `to_json` wrote. Raises UserError, naming `where`, for anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["version"] != 1:
                raise ValueError(f"version: expected 1, found {data['version']}")
            if data["kind"] != "finder":
                raise ValueError(f"kind: expected finder, found {data['kind']}")
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
                licence=str(data["licence"]),
                scores={str(k): float(v) for k, v in data["scores"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, *BEYOND) as error:
            raise UserError(
                f"{where}: expected a finder's passport, written by hrpose, found {error!r}; "
                "export the weights again"
            ) from error
