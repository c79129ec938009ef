"""Configurations of MMPose and of the official code to recipes: tables, and their interpreter.

Each key becomes a key of the recipe or a part of one, or has no effect (hrpose does the same, or
does it elsewhere), or is not supported, as is every key that no table names.
"""

import ast
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrpose.errors import UserError, check_not_input
from hrpose.training.config_files import (
    Leaves,
    Rules,
    Unsupported,
    Values,
    as_it_is,
    boxes_in,
    leaves_of,
    network,
    quarter,
    read_config,
    size,
    times,
    weights,
)
from hrpose.training.mmpose_config import MMPOSE, MMPOSE_0, RUNNER, RUNNER_0, STARTS
from hrpose.training.recipe import Recipe, write_recipe
from hrpose.yaml_file import checked


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the configuration with its value, and what it became, or why it did not."""

    key: str
    value: Any
    meaning: str

    def __str__(self) -> str:
        text = f"{self.key} = {json.dumps(self.value, default=str)}"
        return f"{text if len(text) <= 100 else f'{text[:97]}...'}: {self.meaning}"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A recipe, and where each key of the configuration went."""

    recipe: Recipe
    mapped: tuple[Entry, ...]
    without_effect: tuple[Entry, ...]
    not_supported: tuple[Entry, ...]


def convert_config(path: Path, root: Path | None = None) -> Conversion:
    """The recipe of a configuration of MMPose (.py) or of the official code (.yaml).

    `root` is that of `read_config`. Raises UserError where the file cannot be read, and where it is
    not of the training of a top-down HRNet that hrpose has.
    """
    values, variables = read_config(path, root), Values()
    if isinstance(values.get("MODEL"), dict):
        rules, document = OFFICIAL, _document(codec={"name": "gaussian"})
        values = _as_yacs(values)
    elif isinstance(values.get("train_dataloader"), dict) and "model" in values:
        rules, document = MMPOSE, _document(**STARTS)
        variables = {key: values.pop(key) for key in values.keys() - RUNNER}
        if isinstance(values.get("param_scheduler"), dict):  # one, or a list of them
            values["param_scheduler"] = [values["param_scheduler"]]
    elif isinstance(values.get("data"), dict) and "model" in values:
        rules, document = MMPOSE_0, _document(**STARTS)
        variables = {key: values.pop(key) for key in values.keys() - RUNNER_0}
    else:
        found = f"keys {', '.join(values)}"[:80] if values else "no keys"
        raise _refused(path, "a training of MMPose or of the official code", found)
    own = dict(leaves_of(values, ""))
    missing = {
        key: value
        for key, value in rules.defaults.items()
        # The defaults of a transform count where it is in the pipeline.
        if key not in own
        and (".pipeline." not in key or any(n.startswith(key.rpartition(".")[0]) for n in own))
    }
    leaves = {**missing, **own}
    unread = [Entry(key, value, _of_variable(key)) for key, value in sorted(variables.items())]
    sorts: dict[str, list[Entry]] = {"mapped": [], "without": unread, "not": []}
    for key, value in leaves.items():
        sort, meaning = rules.meaning(key, value, leaves, document)
        if key in own or sort == "mapped":
            note = "" if key in own else " (the default there)"
            sorts[sort].append(Entry(key, value, meaning + note))
    document["name"] = re.sub(r"[^\w.-]+", "-", path.stem)
    essentials = {
        "network": (document.get("network"), "a network that hrpose has"),
        "input_wh": (document.get("input_wh"), "the width and height of the input"),
        "codec": (document.get("codec", {}).get("name"), "a codec that hrpose has"),
    }
    for essential, (value, expected) in essentials.items():
        reasons = (f"no {essential} of hrpose", f"no value for {essential}")
        problems = [entry for entry in sorts["not"] if entry.meaning.startswith(reasons)]
        if value is None or (problems and essential == "network"):
            raise _refused(path, expected, str(problems[0]) if problems else "none")
    for split in ("train", "val"):
        if set(document["data"].get(split, ())) != {"annotations", "images"}:
            raise _refused(path, f"one data set for {split}", "none, or several: merge them first")
    recipe = checked(document, (), Recipe, path)
    return Conversion(recipe, *(tuple(sorts[sort]) for sort in ("mapped", "without", "not")))


def write_converted(
    path: Path, out: Path, root: Path | None = None
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Write the recipe of a configuration to `out`, with what is not supported as comments.

    Returns the keys by sort, as plain values, and a line for each, the last one about all. Raises
    UserError as `convert_config`, and where `out` is the configuration or no name of a recipe.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: expected a name that ends in .yaml", code="option-invalid")
    check_not_input(out, path)
    converted = convert_config(path, root)
    sorts = {
        "mapped": converted.mapped,
        "without_effect": converted.without_effect,
        "not_supported": converted.not_supported,
    }
    comments = [f"From {path.name}, by `hrpose convert-config`."]
    comments += [f"Not supported: {entry}" for entry in converted.not_supported]
    write_recipe(converted.recipe, out, comments)
    counts = [(sort.replace("_", " "), found) for sort, found in sorts.items()]
    lines = [f"{name}: {entry}" for name, found in counts for entry in found]
    total = ", ".join(f"{len(found)} {name}" for name, found in counts)
    plain = {sort: [asdict(entry) for entry in found] for sort, found in sorts.items()}
    return plain, [*lines, f"wrote {out}: {len(lines)} keys: {total}"]


def _document(**starts: Any) -> dict[str, Any]:
    document = {"data": {}, "loss": {"keypoint_weights": False}, **starts}
    return dict(json.loads(json.dumps(document)))


def _of_variable(key: str) -> str:
    tested = key in ("test_dataloader", "test_evaluator", "test_cfg")
    return "`hrpose evaluate` tests" if tested else "a variable, which counts where it is used"


def _refused(path: Path, expected: str, found: str) -> UserError:
    return UserError(f"{path}: expected {expected}, found {found}", code="config-unsupported")


# The official code: lib/config/default.py and experiments/.

# Texts that yacs takes for what they are in Python: 1e-3, True, (0,1,2,3).
_LITERAL = re.compile(r"True|False|[-+\d.eE,()\[\]\s]{1,100}")


def _as_yacs(value: Any) -> Any:
    """Values as yacs reads them, with lists for tuples."""
    if isinstance(value, dict):
        return {key: _as_yacs(each) for key, each in value.items()}
    if isinstance(value, str) and _LITERAL.fullmatch(value):
        try:
            return json.loads(json.dumps(ast.literal_eval(value.strip())))
        except (SyntaxError, ValueError):
            return value
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unsupported("expected true or false")
    return value


def _official_set(split: Any, leaves: Leaves) -> dict[str, str]:
    if not isinstance(split, str | int):
        raise Unsupported("expected the name of one data set")
    mpii = leaves["DATASET.DATASET"] == "mpii"  # as `hrpose data convert mpii` writes it
    suffix = ".zip" if leaves["DATASET.DATA_FORMAT"] == "zip" else ""
    return {
        "annotations": f"annotations/{'' if mpii else 'person_keypoints_'}{split}.json",
        "images": f"images{'' if mpii else f'/{split}'}{suffix}",
    }


def _official_boxes(labeled: Any, leaves: Leaves) -> str:
    file = "" if _truth(labeled) else leaves.get("TEST.COCO_BBOX_FILE", "")
    if not (labeled or file):
        raise Unsupported("without a TEST.COCO_BBOX_FILE, validation is on the labeled boxes")
    return boxes_in(file, leaves.get("DATASET.ROOT", ""))


_RESUME, _DATA, _OWN = "`hrpose train --resume`", "`hrpose train --data`", "hrpose has its own"
OFFICIAL = Rules(
    only={
        "MODEL.NAME": (("pose_hrnet",), "no network of hrpose"),
        "MODEL.EXTRA.STAGE[234].BLOCK": (("BASIC",), "no network of hrpose"),
        "MODEL.EXTRA.STAGE[234].FUSE_METHOD": (("SUM",), "no network of hrpose"),
        "MODEL.EXTRA.FINAL_CONV_KERNEL": ((1,), "the head is a convolution of size 1"),
        "MODEL.EXTRA.STEM_INPLANES": ((64,), "the stem has 64 channels"),
        "MODEL.HEATMAP_SIZE": (quarter("MODEL.IMAGE_SIZE"), "heatmaps have a quarter of the size"),
        "MODEL.TARGET_TYPE": (("gaussian",), "targets are Gaussian"),
        "MODEL.INIT_WEIGHTS": ((True,), "set weights=null to train from scratch"),
        "DATASET.DATASET": (("coco", "mpii"), "expected coco or mpii"),
        "DATASET.DATA_FORMAT": (("jpg", "zip"), "images are files, or in a zip file"),
        "DATASET.COLOR_RGB": ((True,), "networks of hrpose see RGB"),
        "DATASET.HYBRID_JOINTS_TYPE": (("",), "the keypoints are those of the annotations"),
        "DATASET.SELECT_DATA": ((False,), "all persons with labeled keypoints are trained on"),
        "LOSS.USE_TARGET_WEIGHT": ((True,), "keypoints without a label do not count"),
        "TRAIN.OPTIMIZER": (("adam",), "hrpose has adam and adamw"),
        "TRAIN.SHUFFLE": ((True,), "persons are shuffled"),
        "TRAIN.BEGIN_EPOCH": ((0,), _RESUME),
        "TEST.OKS_THRE": ((0.9,), "OKS-NMS is at 0.9"),
        "TEST.IN_VIS_THRE": ((0.2,), "keypoints above 0.2 count for the score of a pose"),
        "TEST.SOFT_NMS": ((False,), "`hrpose evaluate --nms soft`; validation has hard OKS-NMS"),
        "TEST.POST_PROCESS": ((True,), "the codec has the quarter offset"),
        "TEST.SHIFT_HEATMAP": ((True,), "the codec shifts the heatmaps of mirror images"),
    },
    becomes={
        "MODEL.EXTRA.STAGE4.NUM_CHANNELS": ("network", network("MODEL.EXTRA.STAGE{}.{}")),
        "MODEL.IMAGE_SIZE": ("input_wh", size),
        "MODEL.SIGMA": ("codec.sigma", as_it_is),
        "MODEL.PRETRAINED": ("weights", weights),
        "DATASET.TRAIN_SET": ("data.train", _official_set),
        "DATASET.TEST_SET": ("data.val", _official_set),
        "DATASET.FLIP": ("augmentation.flip_probability", lambda v, _: 0.5 if _truth(v) else 0.0),
        "DATASET.SCALE_FACTOR": ("augmentation.scale", as_it_is),
        "DATASET.ROT_FACTOR": ("augmentation.rotation_deg", as_it_is),
        "DATASET.PROB_HALF_BODY": ("augmentation.half_body_probability", lambda v, _: max(0.0, v)),
        "DATASET.NUM_JOINTS_HALF_BODY": ("augmentation.half_body_min_keypoints", as_it_is),
        "LOSS.USE_DIFFERENT_JOINTS_WEIGHT": ("loss.keypoint_weights", as_it_is),
        "LOSS.USE_OHKM": ("loss.name", lambda v, _: "ohkm" if _truth(v) else "mse"),
        "LOSS.TOPK": ("loss.top", as_it_is),
        "TRAIN.BATCH_SIZE_PER_GPU": ("training.batch_size", times("GPUS")),
        "TRAIN.OPTIMIZER": ("optimizer.name", as_it_is),
        "TRAIN.LR": ("optimizer.lr", as_it_is),
        "TRAIN.LR_STEP": ("schedule.milestones", as_it_is),
        "TRAIN.LR_FACTOR": ("schedule.gamma", as_it_is),
        "TRAIN.END_EPOCH": ("training.epochs", as_it_is),
        "WORKERS": ("training.workers", as_it_is),
        "TEST.BATCH_SIZE_PER_GPU": ("evaluation.batch_size", times("GPUS")),
        "TEST.FLIP_TEST": ("evaluation.flip_test", as_it_is),
        "TEST.USE_GT_BBOX": ("evaluation.boxes", _official_boxes),
        "TEST.IMAGE_THRE": (
            "evaluation.box_threshold",
            lambda v, leaves: 0.0 if _truth(leaves["TEST.USE_GT_BBOX"]) else v,
        ),
        "DEBUG.DEBUG": (
            "training.debug_images_every",
            lambda v, leaves: leaves.get("PRINT_FREQ", 20) if _truth(v) else 0,
        ),
    },
    parts={
        "network": ("MODEL.NAME", "MODEL.EXTRA.STAGE[234].*"),
        "codec.name": ("MODEL.TARGET_TYPE",),
        "data": ("DATASET.DATASET", "DATASET.DATA_FORMAT"),
        "training.batch_size": ("GPUS",),
        "evaluation.boxes": ("TEST.COCO_BBOX_FILE",),
        "training.debug_images_every": ("DEBUG.SAVE_*",),
    },
    nothing={
        "the annotations name the keypoints": ("MODEL.NUM_JOINTS",),
        "all layers that fit are loaded": ("MODEL.EXTRA.PRETRAINED_LAYERS",),
        "of bottom-up networks": ("MODEL.TAG_PER_JOINT",),
        _DATA: ("DATASET.ROOT", "DATA_DIR"),
        "the official code never passes it to Adam": ("TRAIN.WD",),
        "of other optimizers than Adam": ("TRAIN.GAMMA[12]", "TRAIN.MOMENTUM", "TRAIN.NESTEROV"),
        _RESUME: ("TRAIN.RESUME", "TRAIN.CHECKPOINT", "AUTO_RESUME"),
        "the official code does not use it": ("TEST.BBOX_THRE", "TEST.NMS_THRE"),
        "`hrpose evaluate --weights`": ("TEST.MODEL_FILE",),
        _OWN: ("PRINT_FREQ", "OUTPUT_DIR", "LOG_DIR", "CUDNN.*", "PIN_MEMORY", "RANK"),
    },
    defaults={
        "GPUS": "(0,)", "WORKERS": 4,
        "MODEL.IMAGE_SIZE": [256, 256], "MODEL.SIGMA": 2, "MODEL.TARGET_TYPE": "gaussian",
        "DATASET.DATASET": "mpii", "DATASET.DATA_FORMAT": "jpg", "DATASET.TRAIN_SET": "train",
        "DATASET.TEST_SET": "valid", "DATASET.FLIP": True, "DATASET.SCALE_FACTOR": 0.25,
        "DATASET.ROT_FACTOR": 30, "DATASET.PROB_HALF_BODY": 0.0,
        "TRAIN.LR": 0.001, "TRAIN.LR_STEP": [90, 110], "TRAIN.LR_FACTOR": 0.1,
        "TRAIN.END_EPOCH": 140, "TRAIN.BATCH_SIZE_PER_GPU": 32,
        "TEST.BATCH_SIZE_PER_GPU": 32, "TEST.FLIP_TEST": False, "TEST.USE_GT_BBOX": False,
        "TEST.IMAGE_THRE": 0.1, "LOSS.USE_DIFFERENT_JOINTS_WEIGHT": False,
    },
)  # fmt: skip
