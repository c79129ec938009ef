"""The angle of every elbow and knee as a pandas data frame.

pip install "hrpose[tables]"
python examples/pandas_angles.py examples/*.jpg
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

import hrpose

ANGLES = {
    f"{side}_{middle}": (f"{side}_{first}", f"{side}_{middle}", f"{side}_{last}")
    for side in ("left", "right")
    for first, middle, last in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
}


def angles(images: Iterable[Path], threshold: float = 0.3) -> pd.DataFrame:
    """A row for each person and joint: degrees, 180 is straight; NaN where a keypoint is absent."""
    estimator = hrpose.load()
    rows = []
    for image in images:
        table = estimator(image).to_pandas(threshold)
        for person, keypoints in table.groupby("person"):
            at = keypoints.where(keypoints["present"]).set_index(keypoints["keypoint"])[["x", "y"]]
            for name, (first, middle, last) in ANGLES.items():
                one, other = (at.loc[end] - at.loc[middle] for end in (first, last))
                cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
                rows.append((image.name, person, name, np.degrees(np.arccos(cosine))))
    return pd.DataFrame(rows, columns=["image", "person", "keypoint", "degrees"])


if __name__ == "__main__":
    print(angles(map(Path, sys.argv[1:])).round(1).to_string(index=False))
