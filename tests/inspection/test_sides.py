"""Left and right by geometry: the groups, and that a swap turns the margin."""

import numpy as np

from hrpose.inspection.sides import groups, side_margins, swapped
from hrpose.skeleton import COCO_17, SHIPPED, Skeleton
from hrpose.synthetic.body import place
from hrpose.synthetic.person import PERSON


def people(count: int) -> np.ndarray:
    """(n, 17, 3) drawn poses; those seen from behind have no face."""
    keypoints = np.zeros((count, 17, 3))
    for row in range(count):
        rng = np.random.default_rng((5, row))
        joints = place(rng, PERSON.pose(rng), (320, 240), 0.5, 1, PERSON.room)
        points = np.array([joints[name] for name in COCO_17.keypoints])
        keypoints[row, :, :2] = points[:, :2]
        front = joints["nose"][2] > joints["left_ear"][2]
        keypoints[row, :, 2] = 2
        keypoints[row, :3, 2] = 2 if front else 0
    return keypoints


def test_groups_follow_the_limbs() -> None:
    left = [
        {COCO_17.keypoints[COCO_17.flip_pairs[pair][0]].removeprefix("left_") for pair in g.pairs}
        for g in groups(COCO_17)
    ]
    assert len(left[0]) == 8
    assert groups(COCO_17)[0].whole
    for expected in ({"knee", "ankle"}, {"hip", "knee", "ankle"}, {"elbow", "wrist"}, {"wrist"}):
        assert expected in left
    assert groups(Skeleton("bolt", ("head", "tip"))) == []
    for skeleton in SHIPPED.values():
        for group in groups(skeleton):
            order = group.permutation(skeleton)
            assert (order[order] == np.arange(len(skeleton))).all()


def test_swapped_people_and_parts_stand_out() -> None:
    keypoints = people(260)
    known = groups(COCO_17)
    legs = next(
        number
        for number, group in enumerate(known)
        if {COCO_17.keypoints[j] for j in group.joints(COCO_17)}
        == {f"{side}_{name}" for side in ("left", "right") for name in ("hip", "knee", "ankle")}
    )
    for person in (3, 50):
        keypoints[person] = keypoints[person, known[0].permutation(COCO_17)]
    for person in (20, 90):
        keypoints[person] = keypoints[person, known[legs].permutation(COCO_17)]
    found, margins = side_margins(keypoints, COCO_17)
    suspects = {person: group for person, group, _ in swapped(found, margins)}
    # Few people teach little: one may be missed, and a few be wrong.
    planted = {3: 0, 50: 0, 20: legs, 90: legs}
    assert sum(suspects.get(person) == group for person, group in planted.items()) >= 3
    assert len(suspects) <= 6


def test_nothing_is_said_without_people_or_labels() -> None:
    found, margins = side_margins(people(10), COCO_17)
    assert not margins.any()
    assert list(swapped(found, margins)) == []
    bare = people(60)
    bare[..., 2] = 0
    found, margins = side_margins(bare, COCO_17)
    assert list(swapped(found, margins)) == []
