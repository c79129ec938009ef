"""People in clips and cameras: read, follow from frame to frame, steady, and write again.

Needs `hrpose[video]`.

for frame, poses in hrpose.video.follow(estimator, "clip.mp4"):
    print(frame.time, poses.track_ids)
"""

from hrpose.video.clip import Clip, Frame
from hrpose.video.following import follow
from hrpose.video.recorder import Recorder
from hrpose.video.smoothing import Smoother
from hrpose.video.tracker import Tracker

__all__ = ["Clip", "Frame", "Recorder", "Smoother", "Tracker", "follow"]
