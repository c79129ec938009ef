"""Leeds Sports Pose and its extension: `joints.mat` beside the folder `images`.

One person an image. LSPET has `joints` of 14 x 3 x n, whose third value says whether a joint is
usable, and images im00001.jpg on; LSP has 3 x 14 x n, whose third value says that it is hidden,
and images im0001.jpg on. Places are taken as they are, as others do: nothing says whether they
count from 0 or from 1.
"""

from pathlib import Path

import numpy as np

from hrpose.data.formats.persons import Given, InputImage, Person, PoseSet, beside, pose_set
from hrpose.data.matlab import read_mat
from hrpose.errors import UserError
from hrpose.skeletons import LSP_14


def read(source: Path, given: Given) -> PoseSet:
    """Read `joints.mat`. Raises UserError, naming the file and the image."""
    joints = read_mat(source, {"joints": ("a", "b", "n")})["joints"]
    if joints.shape[:2] == (14, 3):
        joints, name, third_is_hidden = joints.transpose(2, 0, 1), "im{:05d}.jpg", False
    elif joints.shape[:2] == (3, 14):
        joints, name, third_is_hidden = joints.transpose(2, 1, 0), "im{:04d}.jpg", True
    else:
        raise UserError(
            f"{source}: 'joints': expected the shape (14, 3, n) of LSPET or (3, 14, n) of LSP, "
            f"found {joints.shape}"
        )
    joints = joints.astype(np.float64)
    faulty = ~np.isfinite(joints).all(axis=(1, 2)) | ~np.isin(joints[..., 2], (0, 1)).all(axis=1)
    faulty |= (np.abs(joints) > 1e6).any(axis=(1, 2))
    if faulty.any():
        row = int(np.argmax(faulty)) + 1
        raise UserError(
            f"{source}: image {row}: expected finite places and 0 or 1, found "
            f"{'NaN or infinite' if not np.isfinite(joints[row - 1]).all() else 'other values'}"
        )
    names = given.skeleton.keypoints if given.skeleton else LSP_14.keypoints
    if len(names) != 14:
        raise UserError(f"{source}: expected a skeleton of 14 joints, found {len(names)}")
    images = []
    for row, rows in enumerate(joints.tolist(), 1):
        labeled = {
            joint: (x, y, 1 if third_is_hidden and third else 2)
            for joint, (x, y, third) in zip(names, rows, strict=True)
            if third_is_hidden or third
        }
        persons = (Person(labeled, where=f"{source}: image {row}"),) if labeled else ()
        images.append(InputImage(name.format(row), persons))
    return pose_set(source, images, given, beside(source, given), LSP_14)
