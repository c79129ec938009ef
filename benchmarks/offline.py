"""The offline pass on walkers with planted noise, gaps and swaps: errors before and after.

`python -m benchmarks offline`. Walkers of 8 s, from the front, at 45 degrees and from the side; the
fewest swaps that matter are those of pairs more than a twentieth of the body apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from benchmarks.rows import Fact, timed
from benchmarks.walkers import Floats, Planted, plant
from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.video import ClipPoses, Smoother, refine_clip

PAIRS = np.array(COCO_17.flip_pairs)
VIEWS = {"front": 0.0, "45 degrees": np.pi / 4, "side": np.pi / 2}
WALKERS = 20
# Nearer pairs are counted neither as swapped nor as right.
APART = 0.05


@dataclass(frozen=True)
class Errors:
    """Means over the keypoints of a walker, in percent: of the body height, or of those counted.

    `seen` is the error of keypoints that were visible, `large` the share of them more than a tenth
    of the body off, `jitter` the mean error of the step from frame to frame. `swapped` is the share
    of pairs in frames whose keypoints are nearer to each other's true places. `hidden` is the error
    of keypoints that were planted as hidden or absent and are returned as sure, `found` their
    share.
    """

    seen: float
    large: float
    jitter: float
    swapped: float
    hidden: float
    found: float


def measure(walker: Planted, poses: list[Poses]) -> Errors:
    """Of poses in each frame of the walker, at most one person in each."""
    t = len(walker.times)
    points, sure = np.full((t, 17, 2), np.nan), np.zeros((t, 17), np.bool_)
    for frame, found in enumerate(poses):
        if len(found):
            points[frame], sure[frame] = found.keypoints[0, :, :2], found.keypoints[0, :, 2] >= 0.2
    distance = np.linalg.norm(points - walker.truth, axis=2) / walker.height
    absent = walker.hidden | walker.absent[:, None]
    seen = sure & ~absent
    steps = np.diff(points - walker.truth, axis=0)
    jitter = np.linalg.norm(steps, axis=2)[seen[1:] & seen[:-1]] / walker.height
    left, right = PAIRS.T
    apart = np.linalg.norm(walker.truth[:, left] - walker.truth[:, right], axis=2) / walker.height
    crossed = sum(
        np.linalg.norm(points[:, a] - walker.truth[:, b], axis=2)
        for a, b in ((left, right), (right, left))
    ) / walker.height  # fmt: skip
    straight = distance[:, left] + distance[:, right]
    counted = seen[:, left] & seen[:, right] & (apart > APART)
    filled = sure & absent
    return Errors(
        100 * float(distance[seen].mean()),
        100 * float((distance[seen] > 0.1).mean()),
        100 * float(jitter.mean()),
        100 * float((crossed < straight)[counted].mean()),
        100 * float(distance[filled].mean()) if filled.any() else 0.0,
        100 * float(filled.sum() / max(absent.sum(), 1)),
    )


def smooth_causally(walker: Planted) -> list[Poses]:
    """With the One Euro filter, as without --offline."""
    smoother = Smoother()
    return [smoother(poses, time) for poses, time in zip(walker.poses(), walker.times, strict=True)]


def refine(walker: Planted) -> list[Poses]:
    """With the offline pass, without second poses: there is no image."""
    frames = zip(walker.times.tolist(), walker.poses(), strict=True)
    return list(refine_clip(ClipPoses.collect(frames, COCO_17)))


METHODS = {"as found": Planted.poses, "One Euro": smooth_causally, "offline": refine}


def rows() -> Iterator[Fact]:
    """For each view and method, the mean over the walkers."""
    for rate in (30.0, 10.0):
        for view, yaw in VIEWS.items():
            walkers = [
                plant(np.random.default_rng(1000 + seed), yaw=yaw, rate=rate)
                for seed in range(WALKERS)
            ]
            for name, method in METHODS.items():
                errors = [measure(walker, method(walker)) for walker in walkers]
                yield Fact(f"{rate:g} frames/s, {view}, {name}", _text(errors))
    yield _speed()


def _text(errors: list[Errors]) -> str:
    means = {
        field.name: np.mean([getattr(each, field.name) for each in errors])
        for field in fields(Errors)
    }
    return ", ".join(f"{name} {value:.2f} %" for name, value in means.items())


def _speed() -> Fact:
    walker = plant(np.random.default_rng(0), seconds=120)
    with timed(wall=False) as seconds:
        refine(walker)
    frames: Floats = walker.times
    return Fact("offline pass, a person's frame", f"{1e3 * seconds[0] / len(frames):.2f} ms of CPU")
