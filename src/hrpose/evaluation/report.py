"""The HTML report of an analysis, as one page."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from hrpose.evaluation.analyze import MIN_EXAMPLE_KEYPOINTS, Analysis, Example, Part, ScoreReport
from hrpose.evaluation.compare import NOTABLE, Change, Comparison, Difference
from hrpose.evaluation.error_analysis import KINDS
from hrpose.metrics.calibration import Coverage, PresenceReport, Reliability
from hrpose.metrics.coco import OKS_THRESHOLDS, RECALLS
from hrpose.viz.html import (
    Line,
    captioned,
    document,
    gain_bar,
    interval_bar,
    line_chart,
    share_bar,
    table,
)

_CORRECTIONS = {
    "miss": "Miss: far from every label; moved to its label",
    "swap": "Swap: on another person's keypoint; moved to its label",
    "inversion": "Inversion: left and right confused; moved to its label",
    "jitter": "Jitter: near the label; moved to it",
    "good": "Good keypoints: their remaining distance",
    "score": "Score: each pose scored by its OKS",
    "background": "Background: poses without a person, removed",
    "missed": "Missed persons, added",
}
_EXAMPLES = {
    "worst": ("Lowest OKS", "Persons whose pose has the lowest OKS."),
    "overrated": ("Overrated", "By rank, the score is far better than the OKS."),
    "underrated": ("Underrated", "By rank, the OKS is far better than the score."),
}


def render(analysis: Analysis) -> str:
    """The whole page."""
    sections = [
        _errors(analysis),
        _gains(analysis),
        _keypoints(analysis),
        _curves(analysis),
        _noise(analysis),
        _calibration(analysis.calibration),
        _coverage(analysis),
        _presence(analysis.present),
        *(_persons(name, chosen) for name, chosen in analysis.examples.items() if chosen),
    ]
    return document(
        f"Why the AP is {analysis.scores.AP:.3f}",
        "hrpose.evaluation",
        header=f"<p>{escape(_names(analysis))}</p>",
        main="".join(sections),
        footer="After Ronchi and Perona: Benchmarking and Error Diagnosis in Multi-Instance Pose "
        "Estimation, ICCV 2017. Made by hrpose.",
    )


def render_comparison(comparison: Comparison) -> str:
    """The whole page of two results."""
    names, ap = comparison.names, comparison.metrics["AP"]
    parts = [
        _section(
            "Metrics",
            f"<p>On {comparison.persons} persons in {comparison.images} images. The interval of "
            "the difference, B minus A, is that of 95 % of "
            f"{comparison.draws:,} bootstrap draws of images, the same for both results; "
            "where it does not contain 0, the difference is hardly chance. The last column is the "
            "share of the draws in which B is better.</p>",
            _differences(comparison.metrics),
        ),
        _section(
            "By keypoint and by size",
            "<p>The mean keypoint similarity of labeled keypoints (their term of the OKS), 0 for "
            "those of missed persons.</p>",
            _differences(comparison.keypoints),
            "<p>By COCO's sizes of persons (medium is from 32 to 96 pixels squared):</p>",
            _differences(comparison.sizes),
        ),
        _changes(
            "Who got better", f"The OKS of {comparison.gained} persons rose", comparison.better
        ),
        _changes("Who got worse", f"The OKS of {comparison.lost} persons fell", comparison.worse),
    ]
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    return document(
        f"AP {_more(ap.difference)} ({_more(ap.low)} to {_more(ap.high)})",
        "hrpose.evaluation",
        header=f"<p>B, {escape(names['b'])}, minus A, {escape(names['a'])}; "
        f"{escape(Path(names['annotations']).name)}</p>{notes}",
        main="".join(parts),
        footer="A paired bootstrap over images. Made by hrpose.",
    )


def _differences(values: Mapping[str, Difference]) -> str:
    bounds = [bound for each in values.values() for bound in (each.low, each.high)]
    reach = max((abs(bound) for bound in bounds if np.isfinite(bound)), default=0.0) or 1.0
    rows = [
        [
            escape(name.replace("_", " ")),
            f"{each.a:.3f}",
            f"{each.b:.3f}",
            _more(each.difference),
            interval_bar(each.low, each.difference, each.high, reach),
            f"{_more(each.low)} to {_more(each.high)}",
            _percent(each.ahead),
        ]
        for name, each in values.items()
    ]
    return table(["", "A", "B", "B - A", "", "interval", "B ahead"], rows)


def _changes(title: str, lead: str, changes: list[Change]) -> str:
    if not changes:
        return ""
    persons = []
    for each in changes:
        names = {"labeled": "labeled", "a": "A", "b": "B"}
        images = "".join(captioned(tile, names[name]) for name, tile in each.tiles.items())
        persons.append(
            f'<div class="person"><p><b>OKS {each.oks_a:.2f} in A, {each.oks_b:.2f} in B</b> '
            f"{escape(each.image)}, annotation {each.annotation}</p>{images}</div>"
        )
    return _section(
        title,
        f"<p>{escape(lead)} by more than {NOTABLE:g}. Shown are the largest changes of persons "
        f"with {MIN_EXAMPLE_KEYPOINTS} labels or more. Only labeled keypoints are drawn, and none "
        "where a person was missed.</p>",
        '<div class="persons">',
        *persons,
        "</div>",
    )


def _names(analysis: Analysis) -> str:
    files = f"{Path(analysis.names['results']).name}, {Path(analysis.names['annotations']).name}"
    weights = analysis.names["weights"]
    return f"{files}; heatmaps and boxes with {weights}" if weights else files


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _errors(analysis: Analysis) -> str:
    counts, shares = analysis.counts, analysis.all_keypoints.shares
    metrics = {name: value for name, value in analysis.scores.as_dict().items() if value >= 0}
    return _section(
        "Errors",
        table(list(metrics), [[f"{value:.3f}" for value in metrics.values()]]),
        f"<p>{counts.persons} persons are labeled, {counts.poses} poses were evaluated. "
        f"{counts.missed} persons were missed; {counts.background} poses are background, "
        f"{counts.repeats} of these on a person who has a better-scored pose. {counts.misordered} "
        "persons have another pose with a higher OKS and a lower score. A pose is matched to a "
        "person from an OKS of 0.1 on.</p>",
        f"<p>Of the {analysis.all_keypoints.keypoints} labeled keypoints of matched persons:</p>",
        share_bar(shares),
        _key(),
        table(list(shares), [[_percent(share) for share in shares.values()]]),
        "<p>By keypoint similarity (a keypoint's term of the OKS): good is 0.85 or more, jitter "
        "0.5 or more. Below that it is an inversion where the similarity to the same keypoint of "
        "the other side is 0.5 or more, a swap where that to another person's keypoint is, and "
        "else a miss.</p>",
    )


def _gains(analysis: Analysis) -> str:
    before = analysis.scores
    rows = []
    for gain in analysis.gains:
        rows.append(
            [
                _CORRECTIONS[gain.error],
                gain_bar(before.AP, gain.scores.AP),
                _more(gain.scores.AP - before.AP),
                *(
                    _more(after - least) if least >= 0 else "-"
                    for after, least in (
                        (gain.scores.APM, before.APM),
                        (gain.scores.APL, before.APL),
                    )
                ),
                f"{gain.so_far.AP:.3f}",
            ]
        )
    heads = ["corrected", "AP and gain", "AP", "medium", "large", "AP, with all above"]
    return _section(
        "What correcting errors would gain",
        "<p>Each kind of error is corrected alone and the AP measured again, over all persons and "
        "over those of medium and large size. The last column is cumulative. The gains do not add "
        "up, because a pose may have several errors.</p>",
        table(heads, rows),
    )


def _keypoints(analysis: Analysis) -> str:
    def row(name: str, part: Part) -> list[str]:
        gain = "-" if part.AP is None else _more(part.AP - analysis.scores.AP)
        return [
            escape(name.replace("_", " ")),
            str(part.keypoints),
            share_bar(part.shares),
            *(_percent(part.shares[kind.name.lower()]) for kind in KINDS[1:]),
            f"{part.similarity:.3f}",
            gain,
        ]

    heads = ["", "labels", "errors", *(kind.name.lower() for kind in KINDS[1:]), "similarity"]
    keypoints = [row(name, part) for name, part in analysis.keypoints.items()]
    sizes = [row(name, part)[:-1] for name, part in analysis.sizes.items() if part.keypoints]
    return _section(
        "By keypoint and by size",
        _key(),
        table([*heads, "AP gain"], keypoints),
        "<p>The gain is that of correcting all errors of this keypoint alone. By COCO's sizes of "
        "persons (medium is from 32 to 96 pixels squared):</p>",
        table(heads, sizes),
    )


def _curves(analysis: Analysis) -> str:
    chosen = [0, 2, 5, 8]
    lines = [
        Line(f"OKS {OKS_THRESHOLDS[row]:.2f}", RECALLS, np.maximum(analysis.curves[row], 0))
        for row in chosen
    ]
    ap = np.maximum(analysis.curves, 0).mean(axis=1)
    histogram = np.histogram(analysis.oks, bins=20, range=(0, 1))[0] / len(analysis.oks)
    thresholds = np.linspace(0, 1, 101)
    share = (analysis.oks >= thresholds[:, None]).mean(axis=1)
    return _section(
        "Curves",
        '<div class="charts">',
        line_chart(lines, "recall", "precision"),
        line_chart(
            [
                Line("AP at this OKS", OKS_THRESHOLDS, ap, dots=True),
                Line("share of persons whose best pose reaches it", thresholds, share),
            ],
            "OKS",
            "AP, share",
            bars=histogram.tolist(),
        ),
        "</div>",
        "<p>Behind the second chart: the histogram of the persons' OKS, at their best pose.</p>",
    )


def _noise(analysis: Analysis) -> str:
    if not analysis.noise:
        return ""
    rows = [[f"{p.amount:g}", f"{p.iou:.2f}", f"{p.AP:.3f}"] for p in analysis.noise]
    amounts = [point.amount for point in analysis.noise]
    line = Line("AP", amounts, [max(point.AP, 0) for point in analysis.noise], dots=True)
    return _section(
        "Box noise",
        "<p>Persons are predicted again with noise on the labeled boxes: centers move by this part "
        "of the box, sides change by as much, as standard deviations. The mean IoU with the "
        "labeled boxes tells which amount a detector's boxes correspond to.</p>",
        '<div class="charts">',
        line_chart([line], "box noise", "AP", (0.0, amounts[-1])),
        table(["noise", "mean IoU", "AP"], rows),
        "</div>",
    )


def _calibration(scores: ScoreReport | str) -> str:
    title = "Calibration of keypoint scores"
    if isinstance(scores, str):
        return _section(title, f"<p>{escape(scores)}</p>")

    def curve(name: str, reliability: Reliability) -> Line:
        name = f"{name}, error {reliability.error:.3f}"
        return Line(name, reliability.score, reliability.similarity, dots=True)

    calibration, presence = scores.calibration, scores.presence
    parts = [
        "<p>A calibrated keypoint score is the expected keypoint similarity. Above the line, "
        "keypoints are better than their scores.</p>",
        '<div class="charts">',
        line_chart(
            [
                curve("original", scores.before),
                curve("calibrated", scores.after),
                Line("perfect", [0, 1], [0, 1], faint=True),
            ],
            "keypoint score",
            "keypoint similarity",
        ),
        "<div>",
        f"<p>The best calibration has a temperature of {calibration.temperature:.3f} and an offset "
        f"of {calibration.offset:.3f}: logit(calibrated) = logit(score) / temperature + offset. "
        "<code>hrpose weights calibrate</code> writes one into a copy of the weights. This one was "
        "fitted on these persons; measure it on others.</p>",
    ]
    if presence is not None:
        after = float(calibration(np.array(presence.threshold)))
        parts.append(
            f"<h3>Presence of keypoints</h3><p>{presence.labeled} keypoints are labeled, "
            f"{presence.unlabeled} of the same persons are not. A labeled one scores higher than "
            f"one without a label in {_percent(presence.area)} of all pairs. A threshold of "
            f"{presence.threshold:.2f} ({after:.2f} once calibrated) keeps "
            f"{_percent(presence.recall)} of the labeled and drops "
            f"{_percent(presence.specificity)} of the others. The probability that a keypoint of "
            f"score s is present: 1 / (1 + exp(-({presence.slope:.2f} logit(s) "
            f"{presence.offset:+.2f}))). Keypoints without a label may be hidden, outside the "
            "image, or forgotten.</p>"
        )
    return _section(title, *parts, "</div></div>")


def _coverage(analysis: Analysis) -> str:
    if not analysis.coverage:
        return ""
    every = analysis.coverage["all"]

    def row(name: str, part: Coverage) -> list[str]:
        parts = zip(part.found, part.low, part.high, strict=True)
        cells = [f"{_percent(found)} ({100 * a:.0f} to {100 * b:.0f})" for found, a, b in parts]
        return [escape(name.replace("_", " ")), f"{part.keypoints:,}", *cells, f"{part.radius:.1f}"]

    nominal = [0, *every.levels]
    lines = [
        Line("all keypoints", nominal, [0, *every.found], dots=True),
        Line("low end", nominal, [0, *every.low], faint=True),
        Line("high end", nominal, [0, *every.high], faint=True),
        Line("perfect", [0, 1], [0, 1], faint=True),
    ]
    heads = ["", "labels", *(f"{level:.0%}" for level in every.levels), "radius"]
    return _section(
        "Coverage of ellipses",
        "<p>How many labels are inside the ellipses of their keypoints that should hold 50, 80 and "
        "95% of them, in the labeled boxes. In brackets, 95% intervals by drawing images again. "
        "The radius is the median of the 95% ellipses, in pixels of the image.</p>",
        '<div class="charts">',
        line_chart(lines, "nominal", "found"),
        table(heads, [row(name, part) for name, part in analysis.coverage.items()]),
        "</div>",
    )


def _presence(report: PresenceReport | None) -> str:
    if report is None:
        return ""
    lines = [
        Line("presence", report.curve.score, report.curve.similarity, dots=True),
        Line("perfect", [0, 1], [0, 1], faint=True),
    ]
    rows = [
        ["labeled, not absent", f"{report.area:.3f}", f"{report.score_area:.3f}"],
        ["visible, not hidden", f"{report.visible_area:.3f}", f"{report.visible_score_area:.3f}"],
    ]
    return _section(
        "Presence by the weights",
        f"<p>Of the keypoints of these persons, {report.labels:,} have a label and "
        f"{report.others:,} have none. The chart compares the probability that the weights give "
        f"with the part that has one: it is off by {report.curve.error:.3f} on average. The table "
        "has areas under ROC curves: how often the one scores above the other.</p>",
        '<div class="charts">',
        line_chart(lines, "probability", "part with a label"),
        table(["", "by presence", "by score"], rows),
        "</div>",
    )


def _persons(name: str, chosen: list[Example]) -> str:
    title, lead = _EXAMPLES[name]
    return _section(
        title,
        f"<p>{lead} Left limbs are blue and right ones orange, or in the skeleton's colors. Only "
        "labeled keypoints are drawn.</p>",
        '<div class="persons">',
        *(_person(example) for example in chosen),
        "</div>",
    )


def _person(example: Example) -> str:
    wrong = "; ".join(
        f"{kind}: {', '.join(name.replace('_', ' ') for name in names)}"
        for kind, names in example.keypoints.items()
    )
    tiles = {"labeled": example.labeled, "predicted": example.predicted}
    tiles |= {f"{n.replace('_', ' ')}, heatmap": tile for n, tile in example.heatmaps.items()}
    images = "".join(captioned(tile, label) for label, tile in tiles.items())
    return (
        f'<div class="person"><p><b>OKS {example.oks:.2f}, score {example.score:.2f}</b> '
        f"{escape(example.image)}, annotation {example.annotation}. {escape(wrong)}</p>"
        f"{images}</div>"
    )


def _key() -> str:
    names = [kind.name.lower() for kind in KINDS]
    spans = (f'<span class="key {name}">{name}</span>' for name in names)
    return f"<p>{''.join(spans)}</p>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _more(gain: float) -> str:
    return f"{gain:+.3f}"
