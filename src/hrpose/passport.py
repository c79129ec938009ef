"""What weights must carry so that nobody feeds them the wrong picture or reads them wrongly.

The passport travels as JSON in the metadata of safetensors and ONNX files and in result files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from hrpose.codec import PAPER_CODEC, Codec
from hrpose.errors import UserError
from hrpose.geometry import Crop
from hrpose.skeleton import COCO_17, Skeleton

METADATA_KEY = "hrpose.passport"

# The mean and standard deviation of ImageNet, RGB in [0, 1], as the official code uses them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Passport:
    """The identity of trained weights.

    `input_wh` in pixels, `padding` the factor around a person's box, `mean` and `std` of RGB in
    [0, 1]. `training_data` says in words what the weights were trained on, `licence` what that
    allows, `scores` what they reach: figure to value, with the data set in the figure's name.
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

    @property
    def heatmap_wh(self) -> tuple[int, int]:
        return self.codec.heatmap_wh(self.input_wh)

    def crop(self, box_xywh: ArrayLike) -> Crop:
        """The crop around a person's box [x, y, w, h] that these weights expect."""
        return Crop.from_box(
            box_xywh, self.input_wh, self.padding, unit_lengths=self.codec.unit_lengths
        )

    def to_json(self) -> str:
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
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{where}: expected a passport written by hrpose, found {error!r}; "
                "export the weights again"
            ) from error


def _three(values: list[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
