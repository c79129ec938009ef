"""NWB (Neurodata Without Borders): the poses of one person or animal, by ndx-pose's types.

The module `behavior` has `PoseEstimation`, with a series of positions and confidences for each
keypoint, and the skeleton. The file's identifier is the name of the person, as movement has it.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose._version import __version__
from hrpose.errors import missing
from hrpose.skeleton import Skeleton

# Times of a record are rounded to microseconds.
_REGULAR = 2e-6


def write(
    path: Path,
    individual: str,
    skeleton: Skeleton,
    times: NDArray[np.float64],
    keypoints: NDArray[np.float32],
    *,
    rate: float,
    source: str,
    size_wh: tuple[int, int],
    model: str = "",
) -> None:
    """Write the file of one `individual`.

    `times` (t,) in seconds, written as `rate` in frames per second where they are regular;
    `keypoints` (t, k, 3) x, y in pixels and scores, NaN where missing; `source` is the clip,
    `size_wh` the size of its frames, `model` what predicted. Raises UserError without ndx-pose.
    """
    try:
        import ndx_pose
        import pynwb
    except ModuleNotFoundError as error:
        raise missing("nwb", error, "hrpose[nwb]") from error
    body = ndx_pose.Skeleton(
        name="skeleton",
        nodes=list(skeleton.keypoints),
        edges=np.array(skeleton.limbs, np.uint8).reshape(-1, 2),
    )
    regular = times[0] + np.arange(len(times)) / rate
    when: dict[str, Any] = {"timestamps": times}
    if np.abs(times - regular).max() < _REGULAR:
        when = {"rate": rate, "starting_time": float(times[0])}
    series = []
    for at, keypoint in enumerate(skeleton.keypoints):
        series.append(
            ndx_pose.PoseEstimationSeries(
                name=keypoint.replace("/", "_"),
                description=f"{keypoint} of {individual}",
                data=keypoints[:, at, :2],
                unit="pixels",
                reference_frame="(0, 0) is the center of the upper left pixel; y points down",
                **when,
                confidence=keypoints[:, at, 2],
                confidence_definition="height of the peak of the heatmap, in [0, 1]",
            )
        )
    # A clip does not say when it was taken.
    file = pynwb.NWBFile(
        session_description="Poses in a clip; the start time is when this file was written",
        identifier=individual,
        session_start_time=datetime.now(UTC),
    )
    clip = pynwb.image.ImageSeries(
        name="clip",
        description="The clip that the keypoints were estimated in",
        external_file=[source],
        starting_frame=[0],
        format="external",
        dimension=size_wh,
        unit="n.a.",
        num_samples=len(times),
        **when,
    )
    file.add_acquisition(clip)
    poses = ndx_pose.PoseEstimation(
        name="PoseEstimation",
        pose_estimation_series=series,
        description=f"Keypoints of {individual}, estimated from a clip",
        source_video=clip,
        scorer=model or "hrpose",
        source_software="hrpose",
        source_software_version=__version__,
        skeleton=body,
    )
    behavior = file.create_processing_module("behavior", "Poses estimated by hrpose")
    behavior.add(ndx_pose.Skeletons(skeletons=[body]))
    behavior.add(poses)
    with pynwb.NWBHDF5IO(str(path), "w") as output:
        output.write(file)
