"""What a recipe for a person detector says; its parts that train are those of a pose recipe."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from hrpose.models.hrnet import NETWORKS
from hrpose.training.person_detector.dataset import Framing
from hrpose.training.recipe import AnyTraining, DataSet, Optimizer, Schedule
from hrpose.yaml_file import Part

USUAL = Framing()


class FramingPart(Part):
    """See `hrpose.training.person_detector.dataset.Framing`."""

    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = USUAL.zoom
    close: Annotated[float, Field(ge=0, le=1)] = USUAL.close
    photometric: Annotated[float, Field(ge=0, le=1)] = USUAL.photometric

    def framing(self) -> Framing:
        return Framing(self.zoom, self.close, self.photometric)

    @model_validator(mode="after")
    def _in_order(self) -> "FramingPart":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom: expected the smaller side first, found {list(self.zoom)}")
        return self


class PartlyBoxed(DataSet):
    """COCO JSON of images in which some people may not be boxed, such as those made for poses:
    only what is inside a box is learned from.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """How many of the frames are of these images."""
    without: frozenset[str] = frozenset()
    """Image sources that are left out, such as one that the images held out are of too."""
    framing: FramingPart = FramingPart()


class DetectorData(Part):
    train: DataSet
    """COCO JSON in which every person of each image is boxed."""
    partly_boxed: PartlyBoxed | None = None
    held_out_every: Annotated[int, Field(ge=2)] = 20
    """Each so-many-th image is not trained on but chooses the checkpoint and the threshold."""
    description: str = "unknown"
    """What the weights were trained on, for the metadata."""
    license: str = "unknown"


class DetectorRecipe(Part):
    name: str
    network: str
    frame_wh: tuple[int, int]
    """Of what is trained on, in pixels: parts of images, or whole ones."""
    side: int
    """The longer side of full images, when validating and later when finding."""
    weights: Path | None = None
    """A name or a file to start from: a person detector, or a pose network, whose backbone is
    taken.
    """
    data: DetectorData
    framing: FramingPart = FramingPart()
    optimizer: Optimizer = Optimizer(name="adamw")
    schedule: Schedule = Schedule(name="cosine")
    training: AnyTraining

    @model_validator(mode="after")
    def _fits(self) -> "DetectorRecipe":
        if self.network not in NETWORKS:
            raise ValueError(
                f"network: expected one of {', '.join(NETWORKS)}, found '{self.network}'"
            )
        if any(v < 32 or v % 32 for v in (*self.frame_wh, self.side)):
            raise ValueError(
                "frame_wh, side: expected multiples of 32, for the coarsest branch, found "
                f"{list(self.frame_wh)} and {self.side}"
            )
        if self.training.samples_per_epoch is None:
            raise ValueError(
                "training.samples_per_epoch: expected a number of frames to draw, found none"
            )
        return self
