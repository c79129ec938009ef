"""OpenSim's text files: TRC, positions of markers over time, and MOT, angles over time.

    PathFileType  4  (X/Y/Z)  walk_px_person1.trc
    DataRate  CameraRate  NumFrames  NumMarkers  Units  OrigDataRate  OrigDataStartFrame ...
    25.0      25.0        250        17          px     25.0          0
    Frame#  Time      Nose                  LEye ...
                      X1       Y1     Z1    X2 ...
    0       0.000000  312.5    88.25  0.0   ...

Values are separated by tabs, times are in seconds. A missing value is nan: of rows that end with
empty cells OpenSim 4.6 says that columns are missing.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_WORDS = re.compile(r"[^\W_]+")
_SIDES = {"left": "L", "right": "R"}


def marker_names(keypoints: Sequence[str]) -> list[str]:
    """The keypoints as OpenPose, OpenSim and Sports2D spell them: left_big_toe is LBigToe.

    They stay as they are where two would become one.
    """
    names = []
    for keypoint in keypoints:
        words = _WORDS.findall(keypoint)
        if words and words[0].lower() in _SIDES and len(words) > 1:
            words[0] = _SIDES[words[0].lower()]
        names.append("".join(word[0].upper() + word[1:] for word in words))
    return names if len({*names} - {""}) == len(names) else list(keypoints)


def trc(
    name: str,
    keypoints: Sequence[str],
    times: NDArray[np.float64],
    points: NDArray[np.float64],
    rate: float,
    units: str,
) -> Iterator[str]:
    """The lines of a TRC file of this `name`.

    `times` (t,) in seconds, `points` (t, k, 2) in `units` (m, mm or px), NaN where missing; `rate`
    in frames per second.
    """
    markers = list(map(_word, marker_names(keypoints)))
    yield f"PathFileType\t4\t(X/Y/Z)\t{_word(name)}\n"
    yield (
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\t"
        "OrigNumFrames\n"
    )
    count = len(times)
    yield f"{rate}\t{rate}\t{count}\t{len(markers)}\t{units}\t{rate}\t0\t{count}\n"
    yield "\t".join(["Frame#", "Time", *(f"{marker}\t\t" for marker in markers)]) + "\n"
    yield "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, len(markers) + 1)) + "\n"
    digits = 4 if units == "px" else 6
    missing = np.asarray(np.isnan(points).any(axis=-1)).tolist()
    for frame, (time, row, absent) in enumerate(
        zip(times.tolist(), points.tolist(), missing, strict=True)
    ):
        cells = (
            "nan\tnan\tnan" if none else f"{x:.{digits}f}\t{y:.{digits}f}\t0.0"
            for (x, y), none in zip(row, absent, strict=True)
        )
        yield "\t".join([str(frame), f"{time:.6f}", *cells]) + "\n"


def mot(
    name: str, columns: Sequence[str], times: NDArray[np.float64], angles: NDArray[np.float64]
) -> Iterator[str]:
    """The lines of a MOT file of this `name`: `angles` (t, n) in degrees, nan where missing.

    `columns` are the n names of the angles; `times` (t,) in seconds.
    """
    yield f"{_word(name)}\nversion=1\n"
    yield f"nRows={len(times)}\nnColumns={len(columns) + 1}\ninDegrees=yes\nendheader\n"
    yield "\t".join(["time", *map(_word, columns)]) + "\n"
    for time, row in zip(times.tolist(), angles.tolist(), strict=True):
        yield "\t".join([f"{time:.6f}", *(f"{value:.6f}" for value in row)]) + "\n"


def _word(name: str) -> str:
    """The name without spaces, tabs and ends of lines, which separate columns."""
    return re.sub(r"\s", "_", name)
