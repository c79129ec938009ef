"""Look through poses in FiftyOne: sort by score, filter by joint, mend in CVAT.

pip install hrpose fiftyone
python examples/fiftyone_poses.py examples/
"""

import sys
from pathlib import Path
from typing import Any

import hrpose
from hrpose.image import image_size


def instances(picture: Path, estimator: hrpose.PoseEstimator) -> list[dict[str, Any]]:
    """What FiftyOne's Keypoint wants of each person: points are parts of the width and height."""
    width, height = image_size(picture)
    return [
        {
            "label": "person",
            "points": [(float(x) / width, float(y) / height) for x, y, _ in keypoints],
            "confidence": [float(score) for score in keypoints[:, 2]],
        }
        for keypoints in estimator(picture).keypoints
    ]


def main() -> None:
    """Open the pictures of a folder in FiftyOne's page."""
    import fiftyone as fo

    estimator = hrpose.load("w16-small")
    skeleton = estimator.passport.skeleton
    dataset = fo.Dataset()
    dataset.default_skeleton = fo.KeypointSkeleton(
        labels=list(skeleton.keypoints), edges=[list(limb) for limb in skeleton.limbs]
    )
    for picture in sorted(Path(sys.argv[1]).glob("*.jpg")):
        people = [fo.Keypoint(**each) for each in instances(picture, estimator)]
        sample = fo.Sample(str(picture), poses=fo.Keypoints(keypoints=people))
        dataset.add_sample(sample)
    fo.launch_app(dataset).wait()


if __name__ == "__main__":
    main()
