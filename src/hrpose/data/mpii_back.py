"""A converted MPII file back in the form of the official code: JSON, and a .mat file of heads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrpose.data.coco import read_annotations
from hrpose.data.heads import DIGITS, pckh_truth
from hrpose.data.matlab import write_mat
from hrpose.data.mpii import UNLABELLED, keep_apart
from hrpose.errors import UserError
from hrpose.files import write_atomically

# The names of MPII_16 in the official `gt_valid.mat`.
_SHORT_NAMES = "rank rkne rhip lhip lkne lank pelv thor neck head rwri relb rsho lsho lelb lwri"


def from_coco(annotations: Path, out: Path) -> list[Path]:
    """Write the official form of a converted file: `out`/NAME.json and, with heads, gt_NAME.mat.

    What PCKh does not look at is not kept: the points of missing joints in the .mat file.
    """
    keep_apart(annotations.parent, out)
    parsed = read_annotations(annotations)
    images, people = parsed.entries("images"), parsed.entries("annotations")
    try:
        names = {entry["id"]: entry["file_name"] for entry in images}
        people = sorted(people, key=lambda person: person["id"])
        entries = [_entry(person, names) for person in people]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{annotations}: expected what 'hrpose data convert mpii' writes, found {error!r}"
        ) from error
    written = [out / annotations.name]
    write_atomically(written[0], json.dumps(entries))
    truth = pckh_truth(parsed, [person["id"] for person in people])
    if truth is not None and truth.known.all():
        written.append(out / f"gt_{annotations.stem}.mat")
        points = np.where(truth.missing[..., None], UNLABELLED[0], truth.points)
        names_cell = np.array(_SHORT_NAMES.split(), dtype=object)[None]
        mat = {
            "dataset_joints": names_cell,
            "jnt_missing": truth.missing.T.astype(np.float64),
            "pos_gt_src": points.transpose(1, 2, 0),
            "headboxes_src": truth.head_boxes.transpose(1, 2, 0),
        }
        write_mat(written[1], mat)
    return written


def _entry(person: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """The official entry of one COCO annotation."""
    kept = person["mpii"]
    entry = {
        "image": names[person["image_id"]],
        "center": kept["center"],
        "scale": kept["scale"],
    }
    if kept.get("test"):
        return entry
    odd = kept.get("unlabelled", {})
    joints = np.asarray(person["keypoints"], np.float64).reshape(16, 3)
    points = [
        [round(x + 1, DIGITS), round(y + 1, DIGITS)] if v > 0 else odd.get(str(j), UNLABELLED)
        for j, (x, y, v) in enumerate(joints.tolist())
    ]
    return {**entry, "joints": points, "joints_vis": [int(v > 0) for v in joints[:, 2]]}
