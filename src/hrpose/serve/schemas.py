"""What goes in and out over HTTP; the OpenAPI document is made from these."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hrpose.poses import THRESHOLD

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class Options(BaseModel):
    """What a request for poses may say, in its query or as fields of its form."""

    model_config = ConfigDict(extra="forbid")

    boxes: str | None = Field(
        None,
        description="The people's boxes as JSON, [[x, y, w, h], ...] in pixels of the upright "
        "image. Without them the detector finds people.",
        examples=["[[120, 40, 200, 420]]"],
    )
    threshold: float = Field(
        THRESHOLD, ge=0, le=1, description="Keypoints with a lower score are marked as absent."
    )
    flip_test: bool = Field(
        False, description="Average over the image and its mirror image: better, twice the work."
    )
    heatmaps: bool = Field(False, description="Return each person's heatmaps, too.")


class Keypoint(BaseModel):
    """One keypoint, in pixels of the upright image; the score is in [0, 1]."""

    name: str
    x: float
    y: float
    score: float
    present: bool = Field(description="The score reaches the threshold.")


class Heatmaps(BaseModel):
    """A person's heatmaps as one gray PNG: one below the other, in the order of the keypoints."""

    png: str = Field(description="The PNG as base64. White is 1, black 0.")
    width: int = Field(description="Of one heatmap.")
    height: int = Field(description="Of one heatmap.")
    to_image: list[list[float]] = Field(
        description="2 x 3: takes (x, y, 1) of a heatmap to pixels of the image, centers at "
        "whole numbers."
    )


class Person(BaseModel):
    """One person; `box` is [x, y, w, h], the score that of the whole pose in [0, 1]."""

    box: Box
    score: float
    keypoints: list[Keypoint]
    heatmaps: Heatmaps | None = None


class PosesAnswer(BaseModel):
    """The people in an image. Its size is that of the upright image, in pixels."""

    model: str
    width: int
    height: int
    boxes_from: str = Field(description="`request`, or the name of the detector.")
    threshold: float
    persons: list[Person]


class ModelInfo(BaseModel):
    """Weights, and what they are for: their metadata."""

    name: str
    network: str
    input_width: int
    input_height: int
    keypoints: list[str]
    limbs: list[tuple[int, int]]
    flip_pairs: list[tuple[int, int]]
    keypoint_colors: list[tuple[int, int, int]]
    limb_colors: list[tuple[int, int, int]]
    codec: str
    training_data: str
    license: str
    scores: dict[str, float]


class LimitsInfo(BaseModel):
    """What a request may bring."""

    max_bytes: int
    max_pixels: int
    max_boxes: int


class ModelsAnswer(BaseModel):
    """What this server runs."""

    version: str
    models: list[ModelInfo]
    detector: str
    limits: LimitsInfo


class Health(BaseModel):
    """The server is there, or ready for requests."""

    status: Literal["ok"]


class Problem(BaseModel):
    """Why a request was refused: a word for programs, a line for people."""

    error: str
    reason: str
