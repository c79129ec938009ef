"""Open poses in FiftyOne: sort by score, filter by keypoint, correct in CVAT.

pip install hrpose fiftyone
python examples/fiftyone_poses.py examples/
"""

import sys
from pathlib import Path
from typing import Any

import hrpose
from hrpose.image import image_size


def instances(image: Path, estimator: hrpose.PoseEstimator) -> list[dict[str, Any]]:
    """Arguments of FiftyOne's Keypoint for each person: points relative to width and height."""
    width, height = image_size(image)
    return [
        {
            "label": "person",
            "points": [(float(x) / width, float(y) / height) for x, y, _ in keypoints],
            "confidence": [float(score) for score in keypoints[:, 2]],
        }
        for keypoints in estimator(image).keypoints
    ]


def main() -> None:
    """Open the images of a folder in the FiftyOne app."""
    import fiftyone as fo

    estimator = hrpose.load()
    skeleton = estimator.metadata.skeleton
    dataset = fo.Dataset()
    dataset.default_skeleton = fo.KeypointSkeleton(
        labels=list(skeleton.keypoints), edges=[list(limb) for limb in skeleton.limbs]
    )
    for image in sorted(Path(sys.argv[1]).glob("*.jpg")):
        persons = [fo.Keypoint(**each) for each in instances(image, estimator)]
        sample = fo.Sample(str(image), poses=fo.Keypoints(keypoints=persons))
        dataset.add_sample(sample)
    fo.launch_app(dataset).wait()


if __name__ == "__main__":
    main()
