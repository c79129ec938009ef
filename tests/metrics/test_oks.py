import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.metrics import oks_nms, oks_nms_per_image, soft_oks_nms, soft_oks_nms_per_image
from hrpose.metrics.oks import oks

SIGMAS = (0.05, 0.1, 0.2)


def persons(seed, n, keypoints=3):
    """Poses of which many repeat another with a little noise; areas; scores without ties."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 100, (max(1, n // 3), keypoints, 3))
    poses = base[rng.integers(0, len(base), n)] + rng.normal(0, 4, (n, keypoints, 3))
    return poses, rng.uniform(500, 5000, n), rng.permutation(n) / max(1, n)


def test_similarity_by_hand():
    # One keypoint at distance 10 on an area of 1000 with sigma 0.05: exp(-100 / (2 * 1000 * 0.01)).
    truth = np.array([[[0, 0, 2.0]]])
    found = np.array([[[6, 8, 0.9]], [[0, 0, 0.1]]])
    assert oks(found, truth, [1000], [0.05]) == pytest.approx(np.array([[np.exp(-5)], [1]]))


def test_only_labeled_keypoints_count():
    truth = np.array([[[0, 0, 2], [50, 50, 0], [9, 9, 1]], [[0, 0, 0], [0, 0, 0], [0, 0, 0.0]]])
    found = np.array([[[0, 0], [999, 999], [9, 9.0]]])
    assert oks(found, truth, [400, 400], SIGMAS).tolist() == [[1, 0]]


def test_similarity_equals_pycocotools(random_coco):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = random_coco(seed=5)
    index = COCO()
    index.dataset = truth
    index.createIndex()
    evaluation = COCOeval(index, index.loadRes([dict(entry) for entry in results]), "keypoints")
    evaluation.evaluate()
    image = truth["images"][0]["id"]
    labels = [entry for entry in truth["annotations"] if entry["image_id"] == image]
    found = sorted(
        (entry for entry in results if entry["image_id"] == image),
        key=lambda entry: -entry["score"],
    )
    ours = oks(
        np.array([entry["keypoints"] for entry in found]).reshape(-1, 17, 3),
        np.array([entry["keypoints"] for entry in labels]).reshape(-1, 17, 3),
        [entry["area"] for entry in labels],
    )
    seen = [i for i, entry in enumerate(labels) if entry["num_keypoints"]]
    assert len(seen) > 0
    assert ours[:, seen] == pytest.approx(evaluation.ious[image, 1][:, seen])


@given(st.integers(0, 2**32), st.integers(0, 25), st.floats(0.05, 1))
def test_what_stays_is_what_the_rule_says(seed, n, threshold):
    """Checked from outside: each pose is out exactly if a better one that stayed is too similar."""
    poses, areas, scores = persons(seed, n)
    kept = oks_nms(poses, areas, scores, threshold, SIGMAS).tolist()
    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    labeled = poses.copy()
    labeled[..., 2] = 1
    for i in range(n):
        better = [j for j in kept if scores[j] > scores[i]]
        similar = [
            oks(poses[[i]], labeled[[j]], [(areas[i] + areas[j]) / 2], SIGMAS)[0, 0] for j in better
        ]
        if not any(abs(value - threshold) < 1e-9 for value in similar):
            assert (i in kept) == (not any(value > threshold for value in similar))


@pytest.mark.parametrize(
    ("together", "single"), [(oks_nms_per_image, oks_nms), (soft_oks_nms_per_image, soft_oks_nms)]
)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 60))
def test_a_set_equals_its_images(together, single, seed, n):
    poses, areas, scores = persons(seed, n)
    image_ids = np.random.default_rng(seed).integers(0, 6, n) * 11
    expected = []
    for image in np.unique(image_ids):
        own = np.flatnonzero(image_ids == image)
        expected += own[single(poses[own], areas[own], scores[own], 0.6, SIGMAS)].tolist()
    assert together(image_ids, poses, areas, scores, 0.6, SIGMAS).tolist() == expected


def test_blocks_change_nothing(monkeypatch):
    poses, areas, scores = persons(1, 150)
    image_ids = np.arange(150) % 2
    together = oks_nms_per_image(image_ids, poses, areas, scores, 0.6, SIGMAS)
    soft = soft_oks_nms(poses, areas, scores, 0.6, SIGMAS)
    monkeypatch.setattr("hrpose.metrics.oks._BLOCK", 7)
    assert (oks_nms_per_image(image_ids, poses, areas, scores, 0.6, SIGMAS) == together).all()
    assert (soft_oks_nms(poses, areas, scores, 0.6, SIGMAS) == soft).all()


def test_of_equal_scores_the_later_counts_as_better():
    poses = np.zeros((3, 3, 3))
    poses[2] += 500
    assert oks_nms(poses, [900] * 3, [0.5] * 3, 0.9, SIGMAS).tolist() == [2, 1]


def test_soft_keeps_at_most_so_many():
    poses, areas, scores = persons(0, 30)
    assert len(soft_oks_nms(poses, areas, scores, 0.9, SIGMAS)) == 20
    assert len(soft_oks_nms(poses, areas, scores, 0.9, SIGMAS, max_kept=30)) == 30


@pytest.mark.parametrize("function", [oks_nms, soft_oks_nms])
def test_no_poses(function):
    assert function(np.zeros((0, 17, 3)), [], [], 0.9).tolist() == []


@pytest.mark.parametrize(
    ("keypoints", "areas", "scores", "message"),
    [
        ((2, 16, 3), 2, 2, r"keypoints: expected shape \(n, 17, 3\).*found \(2, 16, 3\)"),
        ((2, 51), 2, 2, r"found \(2, 51\)"),
        ((2, 17, 3), 3, 2, r"expected shape \(2,\), found \(3,\) and \(2,\)"),
        ((2, 17, 3), 2, 1, r"expected shape \(2,\), found \(2,\) and \(1,\)"),
    ],
)
def test_shapes_that_do_not_fit(keypoints, areas, scores, message):
    with pytest.raises(ValueError, match=message):
        soft_oks_nms(np.zeros(keypoints), np.ones(areas), np.ones(scores), 0.9)


def test_image_ids_that_do_not_fit():
    poses, areas, scores = persons(0, 4)
    for function in (oks_nms_per_image, soft_oks_nms_per_image):
        with pytest.raises(ValueError, match="ids"):
            function([1, 2], poses, areas, scores, 0.9, SIGMAS)
    with pytest.raises(ValueError, match="truth_areas"):
        oks(poses, poses, [1.0], SIGMAS)
