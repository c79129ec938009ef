"""Recipes: all settings of a training in one YAML file, of a pose model or a person detector."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from hrpose.codec import Codec
from hrpose.data.augmentation import Augmentation
from hrpose.io import write_atomically
from hrpose.metadata import IMAGENET_MEAN, IMAGENET_STD
from hrpose.models import onnx_pose
from hrpose.models.networks import NETWORKS
from hrpose.skeletons import SHIPPED
from hrpose.yaml_file import Part, load_as

PAPER = Augmentation()
Positive = Annotated[float, Field(gt=0)]


class DataSet(Part):
    """A COCO keypoints file and its images, relative to `--data`."""

    annotations: Path
    images: Path


class Data(Part):
    """The data of a pose model."""

    train: DataSet
    val: DataSet
    padding: Annotated[float, Field(gt=0)] = 1.25
    category: str | None = None
    """The category to train on where the annotations have several with keypoints."""
    merge_categories: bool = False
    """Train on all categories that have the same keypoints, as one."""
    sampling: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """How often persons of an image `source` are drawn, relative to 1."""
    trust: bool = False
    """Scale the loss of each person by the `trust` of its labels."""
    skeleton: Path | None = None
    """A file that completes the annotations' skeleton (`hrpose.data.skeleton_file`), relative to
    `--data`."""
    description: str = "unknown"
    """The training data in words, for the metadata of the weights."""
    license: str = "unknown"


class CodecPart(Part):
    """See `hrpose.codec.Codec`."""

    name: Literal["gaussian", "dark", "udp"] = "gaussian"
    sigma: Annotated[float, Field(gt=0)] = 2.0

    def codec(self) -> Codec:
        return Codec(self.name, self.sigma)


class AugmentationPart(Part):
    """See `hrpose.data.augmentation.Augmentation`, whose defaults are the paper's for COCO."""

    scale: Annotated[float, Field(ge=0, lt=1)] = PAPER.scale
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = PAPER.rotation_deg
    rotation_probability: Annotated[float, Field(ge=0, le=1)] = PAPER.rotation_probability
    flip_probability: Annotated[float, Field(ge=0, le=1)] = PAPER.flip_probability
    half_body_probability: Annotated[float, Field(ge=0, le=1)] = PAPER.half_body_probability
    half_body_min_keypoints: Annotated[int, Field(ge=0)] = PAPER.half_body_min_keypoints
    half_body_upper_probability: Annotated[float, Field(ge=0, le=1)] = (
        PAPER.half_body_upper_probability
    )
    half_body_padding: Annotated[float, Field(gt=0)] = PAPER.half_body_padding
    shift: Annotated[float, Field(ge=0, le=1)] = PAPER.shift
    photometric: Annotated[float, Field(ge=0, le=1)] = PAPER.photometric
    draws: Literal["normal", "uniform"] = PAPER.draws

    def augmentation(self) -> Augmentation:
        return Augmentation(**self.model_dump())


class Loss(Part):
    name: Literal["mse", "ohkm"] = "mse"
    top: Annotated[int, Field(ge=1)] = 8
    """For `ohkm`: the number of keypoints of each person that count, the worst first."""
    peak: Annotated[float, Field(ge=0)] = 0.0
    """For `mse`: the weight of `hrpose.training.module.peak`, which is added."""
    keypoint_weights: bool = True
    """Scale the loss of each keypoint by the skeleton's weight; the official trainings do not."""
    weighting: Literal["squared", "linear"] = "squared"
    """The weights of keypoints (the skeleton's, and trust) multiply heatmaps before the error is
    squared, as in the official code, so that they act squared; `linear` multiplies the error."""


class Conventions(Part):
    """See `hrpose.models.onnx_pose.Conventions`; files of hrpose need none."""

    skeleton: str | None = None
    """The keypoints in their order: the name of a shipped skeleton, such as halpe-26."""
    input_wh: tuple[int, int] | None = None
    padding: Annotated[float, Field(gt=0)] = 1.25
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    bgr: bool = False
    codec: CodecPart = CodecPart(name="dark")
    license: str = "unknown"

    @model_validator(mode="after")
    def _fits(self) -> "Conventions":
        if self.skeleton is not None and self.skeleton not in SHIPPED:
            raise ValueError(
                f"skeleton: expected one of {', '.join(SHIPPED)}, found '{self.skeleton}'"
            )
        return self

    def conventions(self) -> onnx_pose.Conventions:
        named = {"skeleton": self.skeleton and SHIPPED[self.skeleton], "codec": self.codec.codec()}
        return onnx_pose.Conventions(**{**self.model_dump(), **named})


class Teacher(Part):
    """A trained pose model from which another one learns; see `hrpose.training.teacher`."""

    weights: Path
    """A name (`w32-small`, or one of `hrpose weights list`) or a file: of hrpose, or any ONNX pose
    model with heatmaps or SimCC vectors."""
    conventions: Conventions = Conventions()
    loss: Literal["heatmap", "coordinates"] = "heatmap"
    """`heatmap`: Gaussians at the teacher's keypoints, as high as its scores, in the targets.
    `coordinates`: the distance of the heatmaps' centers from the teacher's keypoints, added."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The teacher's part where a keypoint is labeled."""
    weight: Annotated[float, Field(ge=0)] = 0.8
    """Of a keypoint that only the teacher has, relative to a labeled one; times its trust."""
    min_trust: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The teacher's keypoints with less agreement of its views are left out."""
    unlabeled: DataSet | None = None
    """A COCO file of persons' boxes, and their images; persons with labels in it are left out."""
    unlabeled_draws: Annotated[float, Field(ge=0)] = 1.0
    """How often an unlabeled person is drawn, relative to a labeled one."""
    compare_with: Path | None = None
    """Weights of the same training without the teacher. Without it, the initial weights."""


class Optimizer(Part):
    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    base_batch_size: Annotated[int, Field(ge=1)] | None = None
    """The batch size of `lr`, which is scaled for another one; without it, never."""
    scaling: Literal["linear", "sqrt"] = "linear"
    """With the batch (Goyal et al. 2017), or with its square root."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The rate of each stage, relative to that of the stage after it."""

    def rate(self, batch_size: int) -> float:
        """The learning rate for this batch."""
        ratio = batch_size / (self.base_batch_size or batch_size)
        return self.lr * (ratio if self.scaling == "linear" else math.sqrt(ratio))


class Schedule(Part):
    """`steps` multiplies the rate by `gamma` at each of `milestones` (epochs); `cosine` lets it
    fall to zero over the whole training. Either starts with `warmup_steps` of linear growth.
    """

    name: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (170, 200)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class AnyTraining(Part):
    """Settings of both kinds of training."""

    epochs: Annotated[int, Field(ge=1)] = 210
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Persons, or frames of a person detector, in a step, over all processes together."""
    samples_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Draws in an epoch; without it, one for each person."""
    precision: Annotated[
        Literal["auto", "32", "bf16", "fp16"], BeforeValidator(lambda v: "32" if v == 32 else v)
    ] = "auto"
    channels_last: bool = True
    compile: bool | Literal["auto", "default", "reduce-overhead", "max-autotune"] = "auto"
    """`torch.compile`, and its mode; the last two replay CUDA graphs. `auto` is where it wins back
    its minutes, see `hrpose.training.base_module.decided`."""
    freeze_stem: bool = False
    """Keep the initial weights of all layers before stage 2: steps are faster."""
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Stop after this number of evaluations without a better primary metric."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Average the weights over the steps with this decay; the average is evaluated and saved."""
    seed: int = 0
    checkpoint_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Write a checkpoint after this number of steps too, not only at the end of each epoch."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """The number of checkpoints to keep; the newest may get damaged."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ("csv", "tensorboard")
    """Where metrics are logged; the last two need `hrpose[wandb]` and `hrpose[mlflow]`."""

    @property
    def compile_mode(self) -> str | None:
        """The mode of `torch.compile`; None is not to compile, or not decided yet."""
        if isinstance(self.compile, str):
            return None if self.compile == "auto" else self.compile
        return "default" if self.compile else None

    @property
    def cuda_graphs(self) -> bool:
        """Whether steps are replayed from CUDA graphs."""
        return self.compile in ("reduce-overhead", "max-autotune")


class Training(AnyTraining):
    """Settings of the training of a pose model."""

    micro_batches: Annotated[int, Field(ge=1)] = 1
    """The number of parts in which each process runs its batch, to need less memory."""
    sync_batchnorm: bool = True
    """With several processes, normalize over the full batch, as one process does."""
    workers: Annotated[int, Field(ge=0)] = 4
    warp_on_device: bool = False
    """Workers only decode; the device warps the training crops, a batch at a time."""
    frozen_norms: bool = False
    """Keep the initial statistics, scale and shift of every BatchNorm."""
    drop_last: bool = True
    """Leave out the last batch of an epoch where it is not full; the official code trains on it."""
    keep_every_epoch: bool = False
    """Keep the weights of each epoch as `epochs/epoch-001.safetensors`, not only the best."""
    debug_images_every: Annotated[int, Field(ge=0)] = 0
    """Steps between images of a batch (`hrpose.training.module.DebugImages`); 0 is never."""


class Evaluation(Part):
    every_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64
    flip_test: bool = True
    boxes: str = "ground-truth"
    """The boxes that are validated on: "ground-truth", "detector", or COCO detections, a file
    relative to `--data`; with the last two there is no validation loss."""
    box_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least score of a box in the file, or of one that is detected; 0 leaves it to both."""
    detector: str = "auto"
    """For `boxes: detector`: its name or ONNX file, as in `hrpose evaluate --detector`."""
    metric: Literal[
        "auto", "AP", "PCKh", "PCK", "NME", "EPE",
        "CrowdPose", "OCHuman", "COCO-WholeBody", "PoseTrack18",
    ] = "auto"  # fmt: skip
    """The primary metric, which chooses the best weights; `auto` depends on the data."""

    @model_validator(mode="after")
    def _fits(self) -> "Evaluation":
        if self.boxes != "detector" and self.detector != "auto":
            raise ValueError(f"detector: expected boxes: detector, found {self.boxes}")
        if self.boxes != "ground-truth" and self.metric not in ("auto", "AP"):
            raise ValueError(
                f"metric: expected AP, which needs no labels for each box, found {self.metric} "
                f"with boxes: {self.boxes}"
            )
        return self


class Recipe(Part):
    """A recipe of a pose model."""

    name: str
    network: str
    input_wh: tuple[int, int]
    weights: Path | None = None
    """Initial weights: a checkpoint of hrpose, the official code, mmpose or timm, an ONNX file of
    `hrpose export`, or a name (`w16-small`, or one of `hrpose weights list`). Where the keypoints
    differ, the backbone is used, and the rows of the head for keypoints of the same names."""
    data: Data
    codec: CodecPart = CodecPart()
    augmentation: AugmentationPart = AugmentationPart()
    loss: Loss = Loss()
    teacher: Teacher | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.training.warp_on_device and self.augmentation.photometric:
            raise ValueError(
                "training.warp_on_device: expected no photometric augmentation, which is applied "
                "to warped crops in the workers; set augmentation.photometric=0"
            )
        if self.training.cuda_graphs and self.training.micro_batches > 1:
            raise ValueError(
                f"training.compile: expected 'default' with {self.training.micro_batches} "
                f"micro-batches, found '{self.training.compile}', whose CUDA graphs keep one batch"
            )
        _check_network(self.network)
        if any(v < 32 or v % 32 for v in self.input_wh):
            near = [max(32, round(v / 32) * 32) for v in self.input_wh]
            raise ValueError(
                "input_wh: expected multiples of 32, as the coarsest branch needs, found "
                f"{list(self.input_wh)}; the nearest are {near}"
            )
        return self


class Framing(Part):
    """How training frames of a person detector are drawn."""

    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.45, 1.2)
    """The range of the frame's width relative to the image's longer side, log-uniform."""
    close: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The probability of a frame around one of the persons instead, as in portraits."""
    photometric: Annotated[float, Field(ge=0, le=1)] = 0.4
    """As in `hrpose.data.augmentation`."""

    @model_validator(mode="after")
    def _in_order(self) -> "Framing":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom: expected the smaller side first, found {list(self.zoom)}")
        return self


class PartlyBoxed(DataSet):
    """COCO JSON of images in which some persons may have no box, such as keypoint data sets: only
    pixels inside boxes are trained on.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of frames from these images."""
    without: frozenset[str] = frozenset()
    """Image sources to exclude, such as one that is also in the held-out images."""
    framing: Framing = Framing()


class DetectorData(Part):
    """The data of a person detector."""

    train: DataSet
    """COCO JSON in which every person of each image is boxed."""
    partly_boxed: PartlyBoxed | None = None
    held_out_every: Annotated[int, Field(ge=2)] = 20
    """Every n-th image is not trained on; these choose the checkpoint and the threshold."""
    description: str = "unknown"
    """The training data in words, for the metadata of the weights."""
    license: str = "unknown"


class DetectorRecipe(Part):
    """A recipe of a person detector."""

    name: str
    network: str
    frame_wh: tuple[int, int]
    """The size of training frames in pixels: parts of images, or all of one."""
    side: int
    """The longer side of full images, in validation and in use."""
    weights: Path | None = None
    """Initial weights, a name or a file: a person detector, or a pose model, whose backbone is
    used."""
    data: DetectorData
    framing: Framing = Framing()
    optimizer: Optimizer = Optimizer(name="adamw")
    schedule: Schedule = Schedule(name="cosine")
    training: AnyTraining

    @model_validator(mode="after")
    def _fits(self) -> "DetectorRecipe":
        _check_network(self.network)
        if any(v < 32 or v % 32 for v in (*self.frame_wh, self.side)):
            raise ValueError(
                "frame_wh, side: expected multiples of 32, as the coarsest branch needs, found "
                f"{list(self.frame_wh)} and {self.side}"
            )
        if self.training.samples_per_epoch is None:
            raise ValueError(
                "training.samples_per_epoch: expected a number of frames to draw, found none"
            )
        return self


def _check_network(name: str) -> None:
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(NETWORKS)}, found '{name}'")


def write_recipe(recipe: Part, path: Path, comments: Iterable[str] = ()) -> None:
    """Write the settings that differ from the defaults, as YAML that `load_as` reads.

    `comments` are lines above them.
    """
    document = json.loads(recipe.model_dump_json(exclude_defaults=True))
    text = "".join(f"# {' '.join(line.split())}\n" for line in comments)
    text += yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_atomically(path, text)


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe of a pose model; see `load_as`."""
    return load_as(path, overrides, Recipe)
