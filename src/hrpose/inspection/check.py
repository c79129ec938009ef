"""`hrpose data check`: everything that spoils a training and can be seen beforehand."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.pictures import PictureSource
from hrpose.inspection import sides, sides_seen
from hrpose.inspection.findings import Finding, Report
from hrpose.inspection.labels import Labels, read_labels
from hrpose.inspection.people import doubles, misplaced, no_joints, outside
from hrpose.inspection.pictures import file_faults, shared_pictures
from hrpose.inspection.poses import check_joints, predicted
from hrpose.runtime.estimator import PoseEstimator

# Told what is being done, and how many of how many steps are done.
Progress = Callable[[str, int, int], None]


def check(
    annotations: Path,
    images: str | None,
    *,
    against: Path | None = None,
    against_images: str | None = None,
    estimator: PoseEstimator | None = None,
    ignore: Collection[str] = (),
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Look a COCO keypoints set over, with its pictures where `images` says where they are.

    `against` is another set, whose pictures (in `against_images`, else in `images`) must not be in
    this one. With an `estimator` labels are compared with what it sees. Kinds in `ignore` are left
    out. Raises UserError where a file cannot be used at all.
    """
    labels, findings = read_labels(annotations)
    notes: list[str] = []
    findings += [*no_joints(labels), *doubles(labels)]
    source = None if images is None else PictureSource(images)
    other = None if against is None else read_labels(against)[0]
    other_source = source if against_images is None else PictureSource(against_images)
    if source is None:
        notes.append("pictures were not looked at; say where they are with --images")
    else:
        faults, prints, rows = file_faults(labels, source, _told(progress, "pictures"))
        findings += faults
        if other is not None and other_source is not None:
            told = _told(progress, "the other set's pictures")
            found, unread = shared_pictures(labels, prints, rows, other, other_source, told)
            findings += found
            if unread:
                notes.append(f"{unread} pictures of {against} cannot be read; check that set too")
    sized = {f.file for f in findings if f.kind in ("wrong-size", "exif-turn")}
    findings += outside(labels, sized)
    if labels.skeleton is not None and "swapped-sides" not in ignore:
        findings += _swapped(labels, source, estimator, notes, _told(progress, "poses"))
    kept = [finding for finding in findings if finding.kind not in ignore]
    return Report(len(labels.file_names), len(labels), kept, notes)


def _told(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _swapped(
    labels: Labels,
    source: PictureSource | None,
    estimator: PoseEstimator | None,
    notes: list[str],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """By geometry, unless the model contradicts; and by the model."""
    skeleton = labels.skeleton
    if skeleton is None or not skeleton.flip_pairs:
        notes.append("left and right were not judged: the skeleton has no flip pairs")
        return []
    # A joint in the wrong place would look like a swapped one.
    placed = labels.keypoints.copy()
    placed[np.any(np.stack(misplaced(labels)) > 0, axis=0), 2] = 0
    known, margins = sides.side_margins(placed, skeleton)
    posed = int((labels.labelled.sum(axis=1) >= min(4, len(skeleton))).sum())
    if posed < sides.FEWEST_PEOPLE and estimator is None:
        fewest = sides.FEWEST_PEOPLE
        notes.append(f"left and right were not judged: {posed} of {fewest} people; add --weights")
    suspects: dict[int, tuple[int, float, str]] = {
        person: (group, -margin, "by geometry")
        for person, group, margin in sides.swapped(known, margins)
    }
    if estimator is not None and source is not None:
        check_joints(estimator, labels)
        people = np.flatnonzero(labels.labelled.any(axis=1))
        poses = predicted(estimator, labels, source, people, progress)
        suspects = _compared(labels, poses, known, suspects)
    findings = []
    for person, (group, badness, how) in sorted(suspects.items()):
        joints = known[group].joints(skeleton)
        shown = "all pairs" if known[group].whole else _stems(labels, joints)
        labelled = [joint for joint in joints if labels.labelled[person, joint]]
        said = f"{shown} swapped, {how}"
        findings.append(labels.finding("swapped-sides", person, said, badness, labelled))
    return findings


def _compared(
    labels: Labels,
    poses: NDArray[np.float64],
    known: list[sides.Group],
    suspects: dict[int, tuple[int, float, str]],
) -> dict[int, tuple[int, float, str]]:
    assert labels.skeleton is not None
    sizes = np.sqrt(np.maximum(labels.boxes[:, 2:].prod(axis=1), 1.0))
    seen = sides_seen.evidence(poses, labels.keypoints, sizes, labels.skeleton, known)
    result = {}
    for person in range(len(labels)):
        geometric = suspects.get(person)
        # Of groups that the model finds swapped, the one with the most joints that agree.
        group = max(range(len(known)), key=lambda g: (seen[person, g] > sides_seen.CLEARLY)
                    * seen[person, g] * len(known[g].pairs))  # fmt: skip
        by_model = seen[person, group] > sides_seen.CLEARLY
        if geometric is not None and seen[person, geometric[0]] > -sides_seen.CLEARLY:
            agrees = seen[person, geometric[0]] > sides_seen.CLEARLY
            how = "by geometry and by the model" if agrees else geometric[2]
            result[person] = (geometric[0], geometric[1] + agrees, how)
        elif by_model:
            result[person] = (group, float(seen[person, group]), "by the model")
    return result


def _stems(labels: Labels, joints: list[int]) -> str:
    """left_knee, right_knee: as the pairs' left names say it."""
    return ", ".join(labels.names[joint].replace("_", " ") for joint in joints[::2][:4])
