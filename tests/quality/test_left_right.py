"""Left and right by a model: the groups, and which of them are found swapped."""

from pathlib import Path

import numpy as np
from benchmarks.planted import permutation

from hrpose.quality.labels import MIN_EVIDENCE, evidence, groups, read_labels, swapped
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, SHIPPED
from hrpose.synthetic import write_dataset


def test_groups_follow_the_limbs() -> None:
    left = [
        {COCO_17.keypoints[COCO_17.flip_pairs[pair][0]].removeprefix("left_") for pair in g.pairs}
        for g in groups(COCO_17)
    ]
    assert len(left[0]) == 8
    assert groups(COCO_17)[0].all
    for expected in ({"knee", "ankle"}, {"hip", "knee", "ankle"}, {"elbow", "wrist"}, {"wrist"}):
        assert expected in left
    assert groups(Skeleton("bolt", ("head", "tip"))) == []
    for skeleton in SHIPPED.values():
        for group in groups(skeleton):
            order = permutation(group, skeleton)
            assert (order[order] == np.arange(len(skeleton))).all()


def test_swapped_persons_and_parts_are_found(tmp_path: Path) -> None:
    """A model that sees the truth, and labels of which some are swapped."""
    labels, _ = read_labels(write_dataset(tmp_path, 12, seed=2, persons_per_image=(1, 1)))
    truth, wrong = labels.keypoints.copy(), labels.keypoints.copy()
    truth[..., 2] = 0.9
    known = groups(COCO_17)
    names = [
        {COCO_17.keypoints[keypoint] for keypoint in group.keypoints(COCO_17)} for group in known
    ]
    legs = names.index(
        {f"{side}_{name}" for side in ("left", "right") for name in ("hip", "knee", "ankle")}
    )
    sizes = np.sqrt(labels.boxes[:, 2:].prod(axis=1))
    apart = evidence(truth, truth, sizes, COCO_17, known) < -MIN_EVIDENCE
    assert apart[:, 0].sum() > 4
    whole, part = np.flatnonzero(apart[:, 0] & apart[:, legs])[:2]
    wrong[whole] = wrong[whole, permutation(known[0], COCO_17)]
    wrong[part] = wrong[part, permutation(known[legs], COCO_17)]
    seen = evidence(truth, wrong, sizes, COCO_17, known)
    found = {person: group for person, group, _ in swapped(known, seen)}
    assert found == {whole: 0, part: legs}
    assert not list(swapped(known, evidence(truth * np.nan, wrong, sizes, COCO_17, known)))
