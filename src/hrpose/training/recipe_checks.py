"""Recipe checks: settings that would silently cost accuracy, reported before a training starts.

Each check is a function of the recipe and the data that yields findings. Recipes that cannot work
(an unknown key, a size that is not a multiple of 32, an invalid annotation) are refused on reading.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import sigma_for
from hrpose.data.persons import PersonTable
from hrpose.models.convert import Weights
from hrpose.quality.check import TOO_LARGE, box_ratios
from hrpose.skeleton import Skeleton, guess_flip_pairs, one_sided
from hrpose.skeletons import MPII_16
from hrpose.training.recipe import Recipe

# The official trainings: Adam at 1e-3 for a batch of 128 persons (four GPUs with 32 each).
OFFICIAL_RATE, OFFICIAL_BATCH = 1e-3, 128
FINE_TUNING_RATE = 1e-4
# The networks of the published scores, from which these rules are.
PAPER_NETWORKS = ("w32", "w48")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its remedy, in one line. An `error` prevents the training."""

    level: Literal["error", "warning", "note"]
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


Report = Callable[[Finding], None]


def log(finding: Finding) -> None:
    """Log a finding by the logger `hrpose`, notes as INFO and others as WARNING."""
    level = logging.INFO if finding.level == "note" else logging.WARNING
    logging.getLogger("hrpose").log(level, finding.text)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The input of the checks. `start` are the initial weights, already read."""

    recipe: Recipe
    train: PersonTable
    val: PersonTable
    start: Weights | None = None

    @property
    def fine_tunes(self) -> bool:
        """Whether the head of the initial weights is kept."""
        return self.start is not None and self.start.fits_head(self.train.skeleton)


def examine(case: Case) -> list[Finding]:
    """All findings, errors first."""
    findings = [finding for check in CHECKS for finding in check(case)]
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _weight_decay(case: Case) -> Iterator[Finding]:
    optimizer = case.recipe.optimizer
    if optimizer.name == "adam" and optimizer.weight_decay > 0:
        yield Finding(
            "warning",
            f"optimizer.weight_decay is {optimizer.weight_decay:g} with plain Adam, which nearly "
            "stops HRNet from learning; set it to 0, as in effect in the official trainings, or "
            "set optimizer.name=adamw",
        )


def _start(case: Case) -> Iterator[Finding]:
    recipe, start = case.recipe, case.start
    if start is None:
        if recipe.network in PAPER_NETWORKS:
            yield Finding(
                "warning",
                "no initial weights: in the paper's table 1, W32 from scratch is 1.0 AP lower; "
                f"`hrpose weights download {recipe.network}-imagenet`, then "
                f"--set weights={recipe.network}-imagenet",
            )
        return
    if not case.fine_tunes:
        if start.num_keypoints is not None:
            shared = start.shared(case.train.skeleton)
            yield Finding(
                "note",
                f"the weights are for other keypoints than the data's {len(case.train.skeleton)}: "
                f"the backbone is used, and the head for {', '.join(shared) or 'none'}, by name; "
                "the others start untrained",
            )
        return
    rate = recipe.optimizer.rate(recipe.training.batch_size)
    if recipe.network in PAPER_NETWORKS and rate > FINE_TUNING_RATE:
        yield Finding(
            "warning",
            f"optimizer.lr is {rate:g}, but the weights are trained on these keypoints, and such a "
            "rate loses them at first; set it to 1e-4 or less",
        )
    if start.metadata is None:
        yield Finding(
            "note",
            f"the weights do not name their {start.num_keypoints} keypoints, which are assumed to "
            f"be those of {case.train.skeleton.name}, in its order",
        )
    elif start.metadata.codec.name != recipe.codec.name:
        yield Finding(
            "warning",
            f"codec.name is {recipe.codec.name}, the weights were trained with "
            f"{start.metadata.codec.name}; set it to {start.metadata.codec.name} to continue from "
            "there",
        )


def _batch(case: Case) -> Iterator[Finding]:
    recipe = case.recipe
    if recipe.network not in PAPER_NETWORKS or case.fine_tunes:
        return
    ratio = recipe.training.batch_size / OFFICIAL_BATCH
    # Rates between the linear and the square-root rule are fine; both are in use.
    low, high = sorted((OFFICIAL_RATE * ratio, OFFICIAL_RATE * sqrt(ratio)))
    rate = recipe.optimizer.rate(recipe.training.batch_size)
    if not low / 1.25 <= rate <= high * 1.25:
        yield Finding(
            "warning",
            f"optimizer.lr is {rate:g} for a batch of {recipe.training.batch_size}; "
            f"the official 1e-3 is for {OFFICIAL_BATCH}, which scales to between {low:.2g} and "
            f"{high:.2g}",
        )


def _sigma(case: Case) -> Iterator[Finding]:
    recipe = case.recipe
    usual = sigma_for(recipe.input_wh)
    if abs(recipe.codec.sigma - usual) > 0.5 + 1e-9:
        width, height = recipe.input_wh
        yield Finding(
            "warning",
            f"codec.sigma is {recipe.codec.sigma:g}, but targets for an input of {width}x{height} "
            f"usually have {usual:g} (the paper: 2 at 192x256, 3 at 288x384); set it to {usual:g}",
        )


def _hard_keypoints(case: Case) -> Iterator[Finding]:
    loss, k = case.recipe.loss, len(case.train.skeleton)
    if loss.name == "ohkm" and loss.top > k:
        yield Finding(
            "error", f"loss.top: expected at most the skeleton's {k} keypoints, found {loss.top}"
        )


def _flip(case: Case) -> Iterator[Finding]:
    if case.recipe.augmentation.flip_probability == 0 and not case.recipe.evaluation.flip_test:
        return
    skeleton = case.train.skeleton
    yield from flip_findings(skeleton)
    if not skeleton.flip_pairs and len(skeleton) > 1:
        yield Finding(
            "warning",
            f"no keypoint of '{skeleton.name}' has a left or right counterpart; if some do, name "
            "them accordingly (left_ear, right_ear) or pair them in the file of data.skeleton, or "
            "set augmentation.flip_probability=0 and evaluation.flip_test=false",
        )


def flip_findings(skeleton: Skeleton) -> Iterator[Finding]:
    """Findings about the pairs that are swapped in a mirror image."""
    names = skeleton.keypoints
    order = skeleton.flip_permutation
    if not np.array_equal(order[order], np.arange(len(order))):
        yield Finding(
            "error",
            f"the flip pairs of '{skeleton.name}' are not an involution: mirroring twice does not "
            "restore every keypoint; put each keypoint in at most one pair",
        )
        return
    named = {frozenset(pair) for pair in guess_flip_pairs(names)}
    used = {frozenset(pair) for pair in skeleton.flip_pairs}
    by_name = {index for pair in named for index in pair}
    for pair in sorted(map(sorted, used - named)):
        if by_name & set(pair):
            yield Finding(
                "warning",
                f"the flip pair {names[pair[0]]} and {names[pair[1]]} does not match the names, "
                "which pair them otherwise; correct either",
            )
    for pair in sorted(map(sorted, named - used)):
        yield Finding(
            "warning",
            f"{names[pair[0]]} and {names[pair[1]]} look like left and right but are not a flip "
            "pair: mirrored images would have wrong labels; add them to the flip_pairs of "
            "data.skeleton or rename them",
        )
    for name in one_sided(names, (*guess_flip_pairs(names), *skeleton.flip_pairs)):
        yield Finding(
            "warning",
            f"{name} has no counterpart on the other side: mirrored images would have wrong "
            "labels; name its counterpart alike, or pair it in the file of data.skeleton",
        )


def _annotations(case: Case) -> Iterator[Finding]:
    """Whether the labels fit the skeleton and the boxes."""
    skeleton = case.train.skeleton
    labeled: NDArray[np.bool_] = np.greater(case.train.keypoints[..., 2], 0)
    never = [skeleton.keypoints[i] for i in np.flatnonzero(~labeled.any(axis=0))]
    if never:
        yield Finding(
            "warning",
            f"{', '.join(never)} of '{skeleton.name}' {'is' if len(never) == 1 else 'are'} never "
            "labeled in the training data and cannot be learned; label or leave out",
        )
    points = case.train.keypoints[..., :2]
    if labeled.any() and (np.abs(points[labeled]) <= 1).all():
        yield Finding(
            "error",
            "every keypoint of the training data is within one pixel of (0, 0): expected pixels, "
            "found what look like shares of the image; multiply by its width and height",
        )
        return
    ratios = box_ratios(case.train.boxes, case.train.keypoints)
    large = int((ratios > TOO_LARGE).sum())
    if large > 0.1 * (ratios > 0).sum():
        yield Finding(
            "warning",
            f"{large} of {int((ratios > 0).sum())} boxes are more than {TOO_LARGE:g} times as long "
            "as what their keypoints span: the person fills a small part of its crop; check that "
            "'bbox' is [x, y, width, height] (not two corners) of one person",
        )
    start, size = np.split(case.train.boxes[:, None], 2, axis=-1)
    reach = size * (case.recipe.data.padding - 1) / 2
    inside = (points >= start - reach) & (points <= start + size + reach)
    share = float(np.all(inside, axis=-1)[labeled].mean()) if labeled.any() else 1.0
    if share < 0.9:
        yield Finding(
            "warning",
            f"{1 - share:.0%} of the labeled keypoints are outside their person's crop; check "
            "that 'bbox' is [x, y, width, height] of the same person, or raise data.padding",
        )


def _half_body(case: Case) -> Iterator[Finding]:
    if case.recipe.augmentation.half_body_probability > 0 and not case.train.skeleton.upper_body:
        yield Finding(
            "note",
            f"'{case.train.skeleton.name}' has no upper body, so half-body crops have no effect; "
            "set upper_body in the file of data.skeleton, or set "
            "augmentation.half_body_probability=0",
        )


def _sampling(case: Case) -> Iterator[Finding]:
    present = {source.decode() for source in np.unique(case.train.person_sources())}
    unknown = sorted(case.recipe.data.sampling.keys() - present)
    if unknown:
        named = ", ".join(sorted(present - {""})) or "no sources at all"
        yield Finding(
            "warning",
            f"data.sampling names {', '.join(unknown)}, but no image has that 'source'; the "
            f"training data have {named}",
        )


def _evaluation(case: Case) -> Iterator[Finding]:
    same_folder = case.recipe.data.train.images == case.recipe.data.val.images
    train, val = (set(t.file_names[np.unique(t.image_index)]) for t in (case.train, case.val))
    both = len(train & val) if same_folder else 0
    if both:
        yield Finding(
            "warning",
            f"{both} of {len(val)} validation images are training images too: metrics will be too "
            "high, and the best epoch wrongly chosen; remove them from one of the two",
        )
    # MPII's protocol gives the boxes, and without OKS sigmas there is no published AP.
    own = case.recipe.evaluation.boxes == "ground-truth"
    if own and case.val.skeleton != MPII_16 and case.val.skeleton.has_sigmas:
        yield Finding(
            "note",
            "val/AP is measured with ground-truth boxes; most published AP is with a detector's, "
            "and lower: set evaluation.boxes to a file of detections, or compare with "
            "`hrpose evaluate --boxes DETECTIONS`",
        )


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _weight_decay,
    _start,
    _batch,
    _sigma,
    _hard_keypoints,
    _flip,
    _annotations,
    _half_body,
    _sampling,
    _evaluation,
)
