"""A made-up data set in the form of HRNet's official code for MPII."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

NAMES = [
    *("rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head"),
    *("rwri", "relb", "rsho", "lsho", "lelb", "lwri"),
]


def entries(persons: int = 9, seed: int = 0, labels: bool = True) -> list[dict[str, Any]]:
    """Official entries: pixels counted from 1, some joints missing, persons at the borders."""
    rng = np.random.default_rng(seed)
    found = []
    for person in range(persons):
        joints = rng.uniform(1, 160, (16, 2)).round(4)
        visible = (rng.uniform(size=16) < 0.8).astype(int)
        joints[visible == 0] = -1
        entry = {
            "image": f"{person // 2:09}.jpg",
            "center": rng.uniform(2, 160, 2).round(1).tolist(),
            "scale": round(float(rng.uniform(0.3, 4)), 6),
        }
        if labels:
            entry |= {"joints": joints.tolist(), "joints_vis": visible.tolist()}
        found.append(entry)
    return found


def truth(found: list[dict[str, Any]], seed: int = 1) -> dict[str, Any]:
    """The `gt_valid.mat` of these entries."""
    rng = np.random.default_rng(seed)
    start = rng.integers(1, 100, (len(found), 2))
    boxes = np.stack([start, start + rng.integers(10, 60, start.shape)], axis=1).astype(float)
    joints = np.array([entry["joints"] for entry in found])
    missing = 1 - np.array([entry["joints_vis"] for entry in found])
    return {
        "dataset_joints": np.array(NAMES, dtype=object)[None],
        "jnt_missing": missing.T.astype(float),
        "pos_gt_src": joints.transpose(1, 2, 0),
        "headboxes_src": boxes.transpose(1, 2, 0),
    }


def write_mpii(folder: Path, persons: int = 9, files: bool = True) -> Path:
    """`folder`/annot and `folder`/images; returns the first."""
    annot, images = folder / "annot", folder / "images"
    annot.mkdir(parents=True)
    sets = {
        "train": entries(persons, 5),
        "valid": entries(persons, 0),
        "test": entries(3, 7, False),
    }
    for name, found in sets.items():
        (annot / f"{name}.json").write_text(json.dumps(found))
    savemat(annot / "gt_valid.mat", truth(sets["valid"]))
    if files:
        images.mkdir()
        rng = np.random.default_rng(2)
        for name in {entry["image"] for found in sets.values() for entry in found}:
            noise = rng.integers(0, 256, (170, 180, 3), np.uint8)
            cv2.imwrite(str(images / name), cv2.GaussianBlur(noise, (0, 0), 3))
    return annot
