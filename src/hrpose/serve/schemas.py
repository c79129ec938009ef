"""The JSON of the server: options, responses, errors. The OpenAPI document is made from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from hrpose.poses import MIN_SCORE, THRESHOLD

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class Options(BaseModel):
    """The options of a request for poses, in its query or as fields of its form."""

    model_config = ConfigDict(extra="forbid")

    # Left out, but not null: a form and a query have only texts.
    boxes: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=_without_default,
        description="Boxes of persons as JSON, [[x, y, w, h], ...] in pixels of the upright "
        "image. Without it, the detector is run.",
        examples=["[[120, 40, 200, 420]]"],
    )
    threshold: float = Field(
        THRESHOLD, ge=0, le=1, description="Of keypoints with a lower score, `present` is false."
    )
    min_score: Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=_without_default,
        description="Persons whose pose has a lower score are left out; by default "
        f"{MIN_SCORE:g} for detected persons, and 0 in the given `boxes`.",
    )
    flip_test: bool = Field(
        False,
        description="Average over each crop and its mirror image: more accurate, twice the work.",
    )
    heatmaps: bool = Field(False, description="Also return each person's heatmaps.")


class Keypoint(BaseModel):
    """One keypoint, in pixels of the upright image; the score is in [0, 1]."""

    name: str
    x: float
    y: float
    score: float
    present: bool = Field(description="Whether the score reaches the threshold.")


class Heatmaps(BaseModel):
    """A person's heatmaps in one grayscale PNG, top to bottom in the order of the keypoints."""

    png: str = Field(description="The PNG in base64. White is 1, black is 0.")
    width: int = Field(description="Of one heatmap, in pixels.")
    height: int = Field(description="Of one heatmap, in pixels.")
    to_image: list[list[float]] = Field(
        description="2 x 3 matrix that maps (x, y, 1) in heatmap pixels to image pixels; pixel "
        "centers are at integers."
    )


class Person(BaseModel):
    """One person: `box` [x, y, w, h], and the score of the whole pose in [0, 1]."""

    box: Box
    score: float
    keypoints: list[Keypoint]
    heatmaps: Heatmaps | None = None


class PosesAnswer(BaseModel):
    """The poses in an image. `width` and `height` are those of the upright image, in pixels."""

    model: str
    width: int
    height: int
    boxes_from: str = Field(
        description="`request` where boxes were sent, else the detector's name."
    )
    threshold: float
    persons: list[Person]


class ModelInfo(BaseModel):
    """A model: the metadata of its weights, and what runs it."""

    name: str
    network: str
    input_width: int
    input_height: int
    keypoints: list[str]
    limbs: list[tuple[int, int]]
    flip_pairs: list[tuple[int, int]]
    keypoint_colors: list[tuple[int, int, int]]
    limb_colors: list[tuple[int, int, int]]
    details: list[str | None] = Field(
        description="Of each keypoint, the part that is drawn finer than the body: head, foot, "
        "face, left_hand, right_hand."
    )
    codec: str
    training_data: str
    license: str
    scores: dict[str, float]
    engine: str


class LimitsInfo(BaseModel):
    """The limits of a request."""

    max_bytes: int
    max_pixels: int
    max_boxes: int


class ModelsAnswer(BaseModel):
    """The model and detector of this server."""

    version: str
    models: list[ModelInfo]
    detector: str
    limits: LimitsInfo


class Health(BaseModel):
    """The server is alive, or ready for requests."""

    status: Literal["ok"]


class Problem(BaseModel):
    """Why a request was refused: `error` for programs, `reason` for people."""

    error: str
    reason: str
    cause: str | None = Field(
        None, description="What is wrong with the image or boxes, as one of hrpose's error codes."
    )
