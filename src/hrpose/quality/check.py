"""`hrpose data check`: everything that spoils a training and can be seen beforehand."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from hrpose.data.images import ImageFiles
from hrpose.estimator import PoseEstimator
from hrpose.quality import left_right
from hrpose.quality.annotations import Labels, doubles, no_keypoints, outside, read_labels
from hrpose.quality.findings import Finding, Report
from hrpose.quality.images import file_faults, shared_images
from hrpose.quality.left_right import check_keypoints, predicted

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
    """Look a COCO keypoints set over, with its images where `images` says where they are.

    `against` is another set, whose images (in `against_images`, else in `images`) must not be in
    this one. Left and right
    are compared with what the `estimator` sees, where there is one. Kinds in `ignore` are left
    out. Raises UserError where a file cannot be used at all.
    """
    labels, findings = read_labels(annotations)
    notes: list[str] = []
    findings += [*no_keypoints(labels), *doubles(labels)]
    source = None if images is None else ImageFiles(images)
    other = None if against is None else read_labels(against)[0]
    other_source = source if against_images is None else ImageFiles(against_images)
    if source is None:
        notes.append("images were not looked at; say where they are with --images")
    else:
        faults, prints, rows = file_faults(labels, source, _told(progress, "images"))
        findings += faults
        if other is not None and other_source is not None:
            told = _told(progress, "the other set's images")
            found, unread = shared_images(labels, prints, rows, other, other_source, told)
            findings += found
            if unread:
                notes.append(f"{unread} images of {against} cannot be read; check that set too")
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
    source: ImageFiles | None,
    estimator: PoseEstimator | None,
    notes: list[str],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """By comparison with a model; without one, a note that nothing was compared."""
    skeleton = labels.skeleton
    if skeleton is None or not skeleton.flip_pairs:
        notes.append("left and right were not checked: the skeleton has no flip pairs")
        return []
    if estimator is None or source is None:
        notes.append("left and right were not checked: a model compares them; add --weights")
        return []
    check_keypoints(estimator, labels)
    persons = np.flatnonzero(labels.labeled.any(axis=1))
    poses = predicted(estimator, labels, source, persons, progress)
    sizes = np.sqrt(np.maximum(labels.boxes[:, 2:].prod(axis=1), 1.0))
    known = left_right.groups(skeleton)
    seen = left_right.evidence(poses, labels.keypoints, sizes, skeleton, known)
    findings = []
    for person, group, evidence in left_right.swapped(known, seen):
        keypoints = known[group].keypoints(skeleton)
        shown = "all pairs" if known[group].whole else _stems(labels, keypoints)
        labeled = [keypoint for keypoint in keypoints if labels.labeled[person, keypoint]]
        said = f"{shown} swapped, by the model"
        findings.append(labels.finding("swapped-sides", person, said, evidence, labeled))
    return findings


def _stems(labels: Labels, keypoints: list[int]) -> str:
    """left_knee, right_knee: as the pairs' left names say it."""
    return ", ".join(labels.names[keypoint].replace("_", " ") for keypoint in keypoints[::2][:4])
