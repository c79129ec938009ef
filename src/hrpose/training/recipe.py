"""A recipe says everything about a training; one YAML file each, checked before anything starts."""

import contextlib
import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hrpose.codec import Codec
from hrpose.data.augment import Augmentation
from hrpose.errors import UserError
from hrpose.network.spec import NETWORKS
from hrpose.skeleton import Skeleton

PAPER = Augmentation()


class Part(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


P = TypeVar("P", bound=Part)


class DataSet(Part):
    """A COCO keypoints file and its pictures, relative to `--data`."""

    annotations: Path
    images: Path


class Data(Part):
    train: DataSet
    val: DataSet
    padding: Annotated[float, Field(gt=0)] = 1.25
    sampling: dict[str, Annotated[float, Field(ge=0)]] = {}
    """How often people of a picture `source` are drawn, relative to 1."""
    trust: bool = False
    """Scale each person's loss by the `trust` of the labels."""
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    """The keypoints that change places in a mirror image, where their names do not tell."""
    upper_body: tuple[str, ...] | None = None
    """The keypoints of the upper half, for half-body crops."""
    description: str = "unknown"
    """What the weights were trained on, for the passport."""
    licence: str = "unknown"

    def skeleton(self, found: Skeleton) -> Skeleton:
        """The annotations' skeleton with what is said of it here. Raises UserError."""
        index = {name: i for i, name in enumerate(found.keypoints)}
        pairs, upper = self.flip_pairs, self.upper_body
        for key, names in (("flip_pairs", sum(pairs or (), ())), ("upper_body", upper or ())):
            unknown = next((name for name in names if name not in index), None)
            if unknown is not None:
                known = ", ".join(found.keypoints)
                raise UserError(f"data.{key}: expected keypoints ({known}), found {unknown}")
        try:
            if pairs is not None:
                found = replace(found, flip_pairs=tuple((index[a], index[b]) for a, b in pairs))
            if upper is not None:
                found = replace(found, upper_body=tuple(index[name] for name in upper))
        except ValueError as error:
            raise UserError(f"data: {error}") from error
        return found


class CodecPart(Part):
    """See `hrpose.codec.Codec`."""

    name: Literal["gaussian", "dark", "udp"] = "gaussian"
    sigma: Annotated[float, Field(gt=0)] = 2.0

    def codec(self) -> Codec:
        return Codec(self.name, self.sigma)


class AugmentationPart(Part):
    """See `hrpose.data.augment.Augmentation`, whose defaults are the paper's for COCO."""

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
    """For `mse`: this much of `hrpose.training.loss.peak` is added."""
    keypoint_weights: bool = True
    """Scale each keypoint's loss by the skeleton's weight; the official trainings do not."""


class Optimizer(Part):
    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Schedule(Part):
    """`steps` multiplies the rate by `gamma` at each of `milestones` (epochs); `cosine` lets it
    fall to zero over the whole training. Either starts with `warmup_steps` of linear growth.
    """

    name: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (170, 200)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class Training(Part):
    epochs: Annotated[int, Field(ge=1)] = 210
    batch_size: Annotated[int, Field(ge=1)] = 32
    samples_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Draws in an epoch; without it, one for each person."""
    workers: Annotated[int, Field(ge=0)] = 4
    precision: Annotated[
        Literal["auto", "32", "bf16", "fp16"], BeforeValidator(lambda v: "32" if v == 32 else v)
    ] = "auto"
    channels_last: bool = True
    compile: bool = False
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Average the weights over the steps with this decay, and evaluate and keep the average."""
    seed: int = 0
    checkpoint_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Write where to go on after so many steps too, not only at the end of each epoch."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """How many of these are kept, for the newest may get damaged."""
    debug_pictures_every: Annotated[int, Field(ge=0)] = 0
    """Steps between looks at a batch (`hrpose.training.pictures`); 0 is never."""


class Evaluation(Part):
    every_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64
    flip_test: bool = True


class Recipe(Part):
    name: str
    network: str
    input_wh: tuple[int, int]
    weights: Path | None = None
    """What to start from: a checkpoint of hrpose, the official code, mmpose or timm, or a name of
    `hrpose weights list`. Its backbone is taken where the keypoints differ."""
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
        if self.network not in NETWORKS:
            raise ValueError(f"network: expected one of {', '.join(NETWORKS)}")
        if any(v < 32 or v % 32 for v in self.input_wh):
            near = [max(32, round(v / 32) * 32) for v in self.input_wh]
            raise ValueError(
                "input_wh: expected multiples of 32, as the coarsest branch needs; "
                f"the nearest are {near}"
            )
        return self


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe of a pose network; see `load_as`."""
    return load_as(path, overrides, Recipe)


def load_as(path: Path, overrides: Iterable[str], kind: type[P]) -> P:
    """Read a YAML recipe of this kind and apply `overrides` such as `optimizer.lr=5e-4`.

    Raises UserError with one line per fault; a misspelled key comes with a suggestion.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = " ".join(str(error).split())
        raise UserError(f"{path}: expected YAML, found: {first}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(document).__name__}")
    for override in overrides:
        _override(document, override)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        lines = [_explain(fault, kind) for fault in error.errors()]
        raise UserError("\n".join(f"{path}: {line}" for line in lines)) from error


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {override}: expected KEY=VALUE, such as optimizer.lr=5e-4")
    *parents, last = key.split(".")
    node = document
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: '{parent}' is a value and has no keys of its own")
        node = child
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: expected a YAML value, found '{text}'") from error
    # YAML 1.1 reads 5e-4 as text, because it has no dot.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    node[last] = value


def _explain(fault: Any, kind: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        message = str(fault["msg"]).removeprefix("Value error, ")
        found = "" if isinstance(fault["input"], dict) else f", found {fault['input']!r}"
        return f"{location}: {message}{found}" if location else f"{message}{found}"
    *parents, key = fault["loc"]
    known = _keys_at(parents, kind)
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(sorted(known))}"
    return f"unknown key '{location}'; {hint}"


def _keys_at(parents: list[Any], model: type[BaseModel]) -> list[str]:
    for parent in parents:
        model = model.model_fields[str(parent)].annotation  # type: ignore[assignment]
    return list(model.model_fields)
