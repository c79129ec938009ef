"""Poses in clips and cameras: reading, tracking, smoothing and writing. Needs `hrpose[video]`.

for frame, poses in hrpose.video.follow(estimator, "clip.mp4"):
    print(frame.time, poses.track_ids)
"""

from hrpose.video.following import follow
from hrpose.video.offline import follow_offline, refine_clip
from hrpose.video.reading import Clip, Frame
from hrpose.video.smoothing import Smoother
from hrpose.video.tracking import Tracker
from hrpose.video.tracks import ClipPoses
from hrpose.video.writing import Recorder

__all__ = [
    "Clip", "ClipPoses", "Frame", "Recorder", "Smoother", "Tracker", "follow", "follow_offline",
    "refine_clip",
]  # fmt: skip
