"""What `--resume` compares: the recipe and the data that a training began with, and those of now.

Checkpoints carry a `RunRecord`. A change of a setting is of one of three kinds: it takes effect and
is logged (`TAKES_EFFECT`), it cannot be made (`FIXED`), or it needs `--resume-with-changes`, which
writes it into the metadata of the weights: all others, and other data.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from hrpose.data.persons import BoxTable, PersonTable
from hrpose.errors import UserError
from hrpose.metadata import AnyMetadata, Metadata, metadata_in
from hrpose.models.checkpoint import read_torch
from hrpose.training.recipe import DetectorRecipe, Recipe
from hrpose.yaml_file import Part, load_as

# Keys, and sections, that may change between two starts of a training. The paths of data may,
# because their content is compared.
TAKES_EFFECT = (
    *("name", "optimizer", "schedule", "evaluation.batch_size", "evaluation.every_epochs"),
    *("data.train", "data.val", "data.skeleton", "data.category", "data.merge_categories"),
    *("data.description", "data.license", "data.partly_boxed.annotations"),
    *("teacher.compare_with", "teacher.unlabeled.annotations", "teacher.unlabeled.images"),
    "data.partly_boxed.images",
    *(
        f"training.{key}"
        for key in (
            *("epochs", "workers", "loggers", "precision", "channels_last", "compile"),
            *("early_stopping", "checkpoint_every_steps", "keep_checkpoints", "micro_batches"),
            *("sync_batchnorm", "warp_on_device", "debug_images_every", "keep_every_epoch"),
        )
    ),
)
# A checkpoint fits no other value of these.
FIXED = (
    *("network", "input_wh", "frame_wh", "side", "weights", "codec"),
    *("training.batch_size", "training.samples_per_epoch"),
    *("training.freeze_stem", "training.frozen_norms", "training.drop_last"),
)
# With other ones of these, the best metric so far says nothing.
VALIDATION = (
    *("evaluation.metric", "evaluation.flip_test", "evaluation.boxes", "evaluation.box_threshold"),
    *("evaluation.detector", "data.held_out_every", "validation data", "validation boxes data"),
)
_KEYS = ("hrpose.recipe", "hrpose.data", "hrpose.changes")

Kind = Literal["free", "recorded", "fixed"]


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between the start of a training and now, and what may be done about it."""

    what: str
    before: str
    now: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.now}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a training runs with: its `recipe`, and a fingerprint of each part of its `data`.

    `changes` are those made when it was resumed, as sentences; the `recorded` ones are in the
    metadata too.
    """

    recipe: Recipe | DetectorRecipe
    data: Mapping[str, Mapping[str, Any]]
    changes: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    new_validation: bool = field(default=False, compare=False)
    """Whether this start is validated otherwise than the last one."""

    def as_entries(self) -> dict[str, str]:
        """Its entries in a checkpoint."""
        values = (self.recipe.model_dump(mode="json"), self.data, [self.changes, self.recorded])
        return {key: json.dumps(value) for key, value in zip(_KEYS, values, strict=True)}

    @property
    def comments(self) -> tuple[str, ...]:
        """Lines for the head of `recipe.yaml`."""
        return ("Changed when the training was resumed:", *self.changes) if self.changes else ()


def fingerprint(table: PersonTable | BoxTable, images: str) -> dict[str, Any]:
    """The numbers and hashes by which the data of two starts are compared.

    `images` is the hash of the image files, by their names and sizes.
    """
    digest = hashlib.sha256()
    if isinstance(table, PersonTable):
        digest.update("\n".join(table.skeleton.keypoints).encode())
        for name in (
            *("image_ids", "file_names", "image_wh", "sources", "image_index", "annotation_ids"),
            *("boxes", "keypoints", "areas", "trust"),
        ):
            digest.update(np.ascontiguousarray(getattr(table, name)).tobytes())
        count = len(table)
    else:
        for file_name, boxes in zip(table.file_names, table.boxes, strict=True):
            digest.update(f"{file_name}\n".encode(errors="surrogateescape"))
            digest.update(np.ascontiguousarray(boxes).tobytes())
        count = sum(map(len, table.boxes))
    return {"persons": count, "labels": digest.hexdigest(), "images": images}


def resumed(
    checkpoint: Path,
    record: RunRecord,
    metadata: AnyMetadata,
    out: Path,
    with_changes: bool = False,
) -> tuple[RunRecord, list[str]]:
    """The record of a training that is resumed from `checkpoint`, and lines about what is new.

    `record` and `metadata` are those of this start. Raises UserError where the checkpoint does not
    fit, and for changes that need `with_changes` where that is not given.
    """
    content = read_torch(checkpoint)
    step = int(content.get("global_step", 0))
    recipe, data, (before, recorded) = _stored(content, type(record.recipe), out)
    changes = [*_of_metadata(metadata_in(content, checkpoint), metadata)]
    notes = []
    if recipe is not None:
        changes += _of_recipe(recipe, record.recipe)
    if data is None:
        notes.append(f"{checkpoint}: has no fingerprint of its data, which were not compared")
    else:
        changes += _of_data(data, record.data)
    unique = list({change.what: change for change in changes}.values())
    _check(unique, out, with_changes)
    sentences = [f"step {step}: {change}" for change in unique]
    noted = [s for s, change in zip(sentences, unique, strict=True) if change.kind == "recorded"]
    record = replace(
        record,
        changes=(*before, *sentences),
        recorded=(*recorded, *noted),
        new_validation=any(change.what in VALIDATION for change in unique),
    )
    notes += [f"changed from {sentence}" for sentence in sentences]
    return record, notes


def _check(changes: list[Change], out: Path, with_changes: bool) -> None:
    fixed = [str(change) for change in changes if change.kind == "fixed"]
    if fixed:
        raise UserError(
            f"{out}: cannot be resumed with another {'; '.join(fixed)}; use the recipe and data of "
            f"its start ({out / 'recipe.yaml'}), or another --out",
            code="resume-mismatch",
        )
    others = [str(change) for change in changes if change.kind == "recorded"]
    if others and not with_changes:
        raise UserError(
            f"{out}: began with another {'; '.join(others)}; use the recipe and data of its start "
            f"({out / 'recipe.yaml'}), or add --resume-with-changes, which notes them in the "
            "metadata of the weights",
            code="resume-mismatch",
        )


def _stored(
    content: Mapping[str, Any], kind: type[Recipe] | type[DetectorRecipe], out: Path
) -> tuple[Part | None, Any, tuple[list[str], list[str]]]:
    """The recipe, data and changes in a checkpoint; older ones have none, but `out` the recipe."""
    recipe, data, changes = (content.get(key) for key in _KEYS)
    if recipe is None or data is None or changes is None:
        path = out / "recipe.yaml"
        return (load_as(path, (), kind) if path.exists() else None), None, ([], [])
    try:
        # Keys that a later version has added have their defaults.
        parsed = kind.model_validate(json.loads(recipe))
        return parsed, json.loads(data), json.loads(changes)
    except ValidationError as error:
        raise UserError(
            f"{out}: expected a checkpoint of this version's recipes, found one with other keys "
            f"({error.error_count()}); resume it with the version that wrote it",
            code="resume-mismatch",
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{out}: expected a checkpoint with its recipe and data as JSON, found another "
            f"({error}); resume from one that `hrpose train` wrote",
            code="resume-mismatch",
        ) from error


def _of_metadata(before: AnyMetadata | None, now: AnyMetadata) -> Iterator[Change]:
    """What decides whether the weights fit; the recipe, where there is one, has more."""
    if before is None:
        return
    if before.network != now.network:
        yield Change("network", before.network, now.network, "fixed")
    if not isinstance(before, Metadata) or not isinstance(now, Metadata):
        return
    if before.input_wh != now.input_wh:
        yield Change("input_wh", _shown(before.input_wh), _shown(now.input_wh), "fixed")
    if before.codec != now.codec:
        yield Change(*_codec(before, now), "fixed")
    if before.padding != now.padding:
        yield Change("data.padding", _shown(before.padding), _shown(now.padding), "recorded")
    old, new = before.skeleton, now.skeleton
    if len(old) != len(new):
        yield Change("skeleton", f"{len(old)} keypoints", f"{len(new)} keypoints", "fixed")
        return
    for index, (was, is_now) in enumerate(zip(old.keypoints, new.keypoints, strict=True), 1):
        if was != is_now:
            yield Change(f"skeleton: keypoint {index}", was, is_now, "fixed")
            return
    for name in ("flip_pairs", "sigmas", "weights", "upper_body", "limbs"):
        value, value_now = getattr(old, name), getattr(new, name)
        if value != value_now:
            kind: Kind = "free" if name == "limbs" else "recorded"  # limbs are only drawn
            yield Change(f"skeleton: {name}", _shown(value), _shown(value_now), kind)


def _codec(before: Metadata, now: Metadata) -> tuple[str, str, str]:
    if before.codec.name != now.codec.name:
        return "codec.name", before.codec.name, now.codec.name
    return "codec.sigma", f"{before.codec.sigma:g}", f"{now.codec.sigma:g}"


def _of_recipe(before: Part, now: Part) -> Iterator[Change]:
    old, new = (dict(_leaves(part.model_dump(mode="json"))) for part in (before, now))
    for key in dict.fromkeys((*old, *new)):
        was, is_now = old.get(key), new.get(key)
        if was != is_now:
            yield Change(key, _shown(was), _shown(is_now), _kind(key, was, is_now))


def _kind(key: str, before: Any, now: Any) -> Kind:
    # The number of groups of the optimizer depends on it.
    if key == "optimizer.layer_decay" and 1 in (before, now):
        return "fixed"
    for keys, kind in ((FIXED, "fixed"), (TAKES_EFFECT, "free")):
        if any(key == k or key.startswith(f"{k}.") for k in keys):
            return kind  # type: ignore[return-value]
    return "recorded"


def _leaves(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        # The keys of `sampling` are the user's.
        if isinstance(value, dict) and key != "sampling":
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _of_data(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    for part in dict.fromkeys((*before, *now)):
        old, new = before.get(part, {}), now.get(part, {})
        differ = [what for what in ("labels", "images") if old.get(what) != new.get(what)]
        if differ:
            both = " and ".join(differ)
            counts = (f"{each.get('persons', 0):,} persons" for each in (old, new))
            was, is_now = (f"{both} of {count}" for count in counts)
            yield Change(f"{part} data", was, f"other {is_now}", "recorded")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def record_of(
    recipe: Recipe | DetectorRecipe, parts: Iterable[tuple[str, PersonTable | BoxTable, str]]
) -> RunRecord:
    """The record of a start; each of the `parts` is its name, its table and the images' hash."""
    return RunRecord(recipe, {name: fingerprint(table, images) for name, table, images in parts})
