"""`hrpose predict clip.mp4` and `hrpose predict camera:0`: a drawn clip and poses.json out."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrpose.detection.detector import Detector
    from hrpose.runtime.estimator import PoseEstimator

CLIPS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


def is_clip(source: str | Path) -> bool:
    """Whether `hrpose predict` treats this argument as a clip or a camera, not as a picture."""
    return str(source).startswith("camera:") or Path(source).suffix.lower() in CLIPS


def predict_clip(
    source: str | Path,
    estimator: "PoseEstimator",
    detector: "Detector | None",
    out: Path,
    *,
    every: int = 5,
    smooth: bool = True,
    threshold: float = 0.3,
    show: bool = False,
) -> None:
    """Follow the people of a clip or of `camera:N`; writes a drawn clip and poses.json to `out`.

    `detector` finds people on every `every`-th frame; None takes the whole picture while nobody is
    followed. `smooth` steadies the keypoints. Keypoints below `threshold` are not drawn. `show`
    opens a window with what is being drawn.
    """
    raise NotImplementedError
