"""A recipe says everything about a training; one YAML file each, checked before anything starts."""

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
from hrpose.models.hrnet import NETWORKS
from hrpose.yaml_file import Part, load_as

PAPER = Augmentation()


class DataSet(Part):
    """A COCO keypoints file and its images, relative to `--data`."""

    annotations: Path
    images: Path


class Data(Part):
    train: DataSet
    val: DataSet
    padding: Annotated[float, Field(gt=0)] = 1.25
    sampling: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """How often people of an image `source` are drawn, relative to 1."""
    trust: bool = False
    """Scale each person's loss by the `trust` of the labels."""
    skeleton: Path | None = None
    """A file that completes the annotations' skeleton (`hrpose.data.skeleton_file`), relative to
    `--data`."""
    description: str = "unknown"
    """What the weights were trained on, for the metadata."""
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

    def augmentation(self) -> Augmentation:
        return Augmentation(**self.model_dump())


class Loss(Part):
    name: Literal["mse", "ohkm"] = "mse"
    top: Annotated[int, Field(ge=1)] = 8
    """For `ohkm`: how many of each person's keypoints count, the worst first."""
    peak: Annotated[float, Field(ge=0)] = 0.0
    """For `mse`: this much of `hrpose.training.losses.peak` is added."""
    keypoint_weights: bool = True
    """Scale each keypoint's loss by the skeleton's weight; the official trainings do not."""


class Optimizer(Part):
    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    base_batch_size: Annotated[int, Field(ge=1)] | None = None
    """The batch that `lr` is for; for another one it is scaled by `scaling`. Without it, never."""
    scaling: Literal["linear", "sqrt"] = "linear"
    """With the batch (Goyal et al. 2017), or with its square root."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each stage before the head has the rate of the one after it times this."""

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
    """What every training takes, a person detector's too."""

    epochs: Annotated[int, Field(ge=1)] = 210
    batch_size: Annotated[int, Field(ge=1)] = 32
    """People, or a person detector's frames, in a step, over all processes together."""
    samples_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Draws in an epoch; without it, one for each person."""
    precision: Annotated[
        Literal["auto", "32", "bf16", "fp16"], BeforeValidator(lambda v: "32" if v == 32 else v)
    ] = "auto"
    channels_last: bool = True
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    """`torch.compile`, and its mode; the last two replay CUDA graphs."""
    freeze_stem: bool = False
    """Leave all layers before stage 2 as the weights brought them: a sample then costs less."""
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many evaluations in a row without a better figure."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Average the weights over the steps with this decay, and evaluate and keep the average."""
    seed: int = 0
    checkpoint_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Write where to go on after so many steps too, not only at the end of each epoch."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """How many of these are kept, for the newest may get damaged."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ("csv", "tensorboard")
    """Where the figures go; the last two need `hrpose[wandb]` and `hrpose[mlflow]`."""

    @property
    def compile_mode(self) -> str | None:
        """What `torch.compile` calls it; None is not to compile."""
        if isinstance(self.compile, str):
            return self.compile
        return "default" if self.compile else None

    @property
    def cuda_graphs(self) -> bool:
        """Whether steps are replayed from graphs."""
        return self.compile in ("reduce-overhead", "max-autotune")


class Training(AnyTraining):
    """What only the training of a pose network takes."""

    micro_batches: Annotated[int, Field(ge=1)] = 1
    """Each process's batch goes through the network in so many parts, to need less memory."""
    sync_batchnorm: bool = True
    """With several processes, normalize over the whole batch, as one process does."""
    workers: Annotated[int, Field(ge=0)] = 4
    warp_on_device: bool = False
    """Workers only decode; the device cuts the training crops, all of a batch at once."""
    frozen_norms: bool = False
    """Leave every BatchNorm as the weights brought it: statistics, scale and shift."""
    debug_images_every: Annotated[int, Field(ge=0)] = 0
    """Steps between looks at a batch (`hrpose.training.debug_images`); 0 is never."""


class Evaluation(Part):
    every_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64
    flip_test: bool = True
    metric: Literal["auto", "AP", "PCKh", "PCK", "NME", "EPE"] = "auto"
    """The figure that says which weights are best; `auto` goes by what the data have."""


class Recipe(Part):
    name: str
    network: str
    input_wh: tuple[int, int]
    weights: Path | None = None
    """What to start from: a checkpoint of hrpose, the official code, mmpose or timm, an ONNX file
    of `hrpose export`, or a name (`w16-small`, or one of `hrpose weights list`). Where the
    keypoints differ, its backbone is taken, and the head's rows of those with the same names."""
    data: Data
    codec: CodecPart = CodecPart()
    augmentation: AugmentationPart = AugmentationPart()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.training.warp_on_device and self.augmentation.photometric:
            raise ValueError(
                "training.warp_on_device: expected no photometric augmentation, which works on "
                "warped crops in the workers; set augmentation.photometric=0"
            )
        if self.training.cuda_graphs and self.training.micro_batches > 1:
            raise ValueError(
                f"training.compile: expected 'default' with {self.training.micro_batches} "
                f"micro-batches, found '{self.training.compile}', whose CUDA graphs keep one batch"
            )
        if self.network not in NETWORKS:
            raise ValueError(
                f"network: expected one of {', '.join(NETWORKS)}, found '{self.network}'"
            )
        if any(v < 32 or v % 32 for v in self.input_wh):
            near = [max(32, round(v / 32) * 32) for v in self.input_wh]
            raise ValueError(
                "input_wh: expected multiples of 32, as the coarsest branch needs, found "
                f"{list(self.input_wh)}; the nearest are {near}"
            )
        return self


def write_recipe(recipe: Part, path: Path) -> None:
    """Write what differs from the defaults, as YAML that `load_as` reads."""
    document = json.loads(recipe.model_dump_json(exclude_defaults=True))
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_atomically(path, text)


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe of a pose network; see `load_as`."""
    return load_as(path, overrides, Recipe)
