import numpy as np
import pytest


def make(seed, images=12, keypoints=17):
    """A random ground truth with crowds, unlabeled persons and absent keypoints; and results."""
    rng = np.random.default_rng(seed)
    names = None if keypoints == 17 else [f"joint_{i}" for i in range(keypoints)]
    if names is None:
        from hrpose.skeletons import COCO_17

        names = list(COCO_17.keypoints)
    annotations, results = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(1, 6)):
            size = float(np.exp(rng.uniform(np.log(20), np.log(300))))
            corner = rng.uniform(0, 300, 2)
            points = corner + rng.uniform(0, size, (keypoints, 2))
            visible = rng.integers(0, 3, keypoints) * (rng.random() > 0.15)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": np.column_stack([points, visible]).ravel().tolist(),
                    "num_keypoints": int((visible > 0).sum()),
                    "area": size * size * 0.6,
                    "bbox": [*corner.tolist(), size, size],
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(rng.integers(0, 4)):
                noisy = points + rng.normal(0, size * rng.uniform(0.01, 0.2), points.shape)
                results.append(
                    {
                        "image_id": image,
                        "category_id": 1,
                        "keypoints": np.column_stack([noisy, np.ones(keypoints)]).ravel().tolist(),
                        "score": float(rng.random()),
                    }
                )
    truth = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }
    return truth, results


@pytest.fixture
def random_coco():
    return make
