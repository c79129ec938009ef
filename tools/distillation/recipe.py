"""The recipe of a distillation: every key, as in docs/models/history/w32-small-distilled.yaml."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hrpose.codec import Codec
from hrpose.metadata import Metadata
from hrpose.training.recipe import CodecPart
from hrpose.yaml_file import Part, load_as

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Optimizer(Part):
    """AdamW. The rate grows for `warmup_steps`, then falls as a cosine to `lr_end` times `lr`."""

    lr: Positive
    lr_end: Fraction
    warmup_steps: Count
    weight_decay: Annotated[float, Field(ge=0)]


class Teacher(Part):
    """Weights of the teacher's keypoints in target heatmaps and loss."""

    share: Fraction
    """Of the teacher in the target of a labeled keypoint."""
    alone: Fraction
    """Weight of a keypoint that only the teacher has."""
    outside: Fraction
    """Weight of the empty target of a keypoint outside the crop."""
    min_score: Fraction
    """Below it, the teacher's keypoint has no cross-entropy."""


class Augmentation(Part):
    """See `hrpose.data.augmentation.Augmentation`; the last two are of `tools.distillation`."""

    scale: Fraction
    rotation_deg: Annotated[float, Field(ge=0)]
    half_body_probability: Fraction
    photometric: Fraction
    box_jitter: Fraction
    """Standard deviation of a box's center, relative to its size; of its sides, 1.6 times that."""
    truncation_probability: Fraction
    """Of an image or a box that ends below the shoulders, at the hips or at the knees."""


class Recipe(Part):
    """A recipe; sizes in pixels."""

    name: str
    network: str
    input_wh: tuple[int, int]
    codec: CodecPart
    padding: Positive
    samples: Count
    """Of the whole schedule."""
    batch_size: Count
    optimizer: Optimizer
    freeze_stem: Fraction
    """The part of the schedule in which the layers before stage 2 stay as they are."""
    ema_decay: Fraction
    peak: Annotated[float, Field(ge=0)]
    """Weight of the cross-entropy over the pixels of a heatmap."""
    teacher: Teacher
    sampling: dict[str, Annotated[float, Field(ge=0)]]
    """How often a person of each source is drawn, relative to the others."""
    augmentation: Augmentation
    seed: int
    description: str
    """Of the training data, for the metadata."""
    license: str

    def metadata(self) -> Metadata:
        """The metadata of the weights."""
        return Metadata(
            network=self.network,
            name=self.name,
            input_wh=self.input_wh,
            codec=Codec(self.codec.name, self.codec.sigma),
            padding=self.padding,
            training_data=self.description,
            license=self.license,
        )


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as `optimizer.lr=5e-4`.

    Raises UserError, naming what is wrong with it.
    """
    return load_as(path, overrides, Recipe)
