"""The analysis as one HTML page."""

from html import escape
from pathlib import Path

import numpy as np

from hrpose.evaluation.analyze import Analysis, Example, Part
from hrpose.evaluation.calibration import Reliability, Scores
from hrpose.evaluation.error_analysis import KINDS
from hrpose.metrics.coco import OKS_THRESHOLDS, RECALLS
from hrpose.viz.html import Line, document, gain_bar, line_chart, share_bar, source, table

_MENDED = {
    "miss": "Miss: far from every likely place; put on the label",
    "swap": "Swap: on another person's keypoint; put on the label",
    "inversion": "Inversion: on the left or right twin; put on the label",
    "jitter": "Jitter: near the label; put on it",
    "good": "What distance remains in good keypoints",
    "score": "Score: each pose scored by its OKS",
    "background": "Background: poses for nobody, left out",
    "missed": "Missed people, added",
}
_SHOWN = {
    "worst": ("The worst", "People whose pose has the lowest OKS."),
    "overrated": ("Sure and wrong", "The score is far better than the OKS, by rank."),
    "underrated": ("Unsure and right", "The OKS is far better than the score, by rank."),
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


def _names(analysis: Analysis) -> str:
    files = f"{Path(analysis.names['results']).name}, {Path(analysis.names['annotations']).name}"
    weights = analysis.names["weights"]
    return f"{files}; heatmaps and boxes with {weights}" if weights else files


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _errors(analysis: Analysis) -> str:
    counts, shares = analysis.counts, analysis.all_keypoints.shares
    figures = {name: value for name, value in analysis.scores.as_dict().items() if value >= 0}
    return _section(
        "What is wrong",
        table(list(figures), [[f"{value:.3f}" for value in figures.values()]]),
        f"<p>{counts.persons} people are labeled, {counts.poses} poses were looked at. "
        f"{counts.missed} people were missed; {counts.background} poses are background, "
        f"{counts.repeats} of these on a person who has a better-scored pose. {counts.misordered} "
        "people have another pose with a higher OKS and a lower score. A pose is meant for a "
        "person from an OKS of 0.1 on.</p>",
        f"<p>Of the {analysis.all_keypoints.keypoints} labeled keypoints of the people who were "
        "found:</p>",
        share_bar(shares),
        _key(),
        table(
            list(shares),
            [[_percent(share) for share in shares.values()]],
        ),
        "<p>By keypoint similarity (a keypoint's term of the OKS): good is 0.85 or more, jitter "
        "0.5 "
        "or more. Below that it is an inversion where the similarity to the left or right twin is "
        "0.5 or more, a swap where that to another person's keypoint is, and else a miss.</p>",
    )


def _gains(analysis: Analysis) -> str:
    before = analysis.scores
    rows = []
    for gain in analysis.gains:
        rows.append(
            [
                _MENDED[gain.error],
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
    heads = ["mended", "AP, and what it gains", "AP", "medium", "large", "AP, this and all above"]
    return _section(
        "What mending would give back",
        "<p>Each kind of error is mended alone, and the AP measured again, over all people and "
        "over those of medium and large size. The last column mends one kind after the other; "
        "the gains do not add up, for a pose may have several errors.</p>",
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
        "<p>The gain is that of mending all errors of this keypoint alone. By the size of the "
        "person, as COCO has it (medium is from 32 to 96 pixels squared):</p>",
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
                Line("share of people whose best pose reaches it", thresholds, share),
            ],
            "OKS",
            "AP, share",
            bars=histogram.tolist(),
        ),
        "</div>",
        "<p>Behind the second chart: how many people have which OKS, at their best pose.</p>",
    )


def _noise(analysis: Analysis) -> str:
    if not analysis.noise:
        return ""
    rows = [[f"{p.amount:g}", f"{p.iou:.2f}", f"{p.AP:.3f}"] for p in analysis.noise]
    amounts = [point.amount for point in analysis.noise]
    line = Line("AP", amounts, [max(point.AP, 0) for point in analysis.noise], dots=True)
    return _section(
        "How much the boxes matter",
        "<p>The labeled boxes are shaken and their people predicted again: centers move by this "
        "part of the box, sides change by as much, as standard deviations. The mean IoU "
        "with the true boxes says to which of these a detector comes near.</p>",
        '<div class="charts">',
        line_chart([line], "box noise", "AP", (0.0, amounts[-1])),
        table(["noise", "mean IoU", "AP"], rows),
        "</div>",
    )


def _calibration(scores: Scores | str) -> str:
    title = "Are the scores honest?"
    if isinstance(scores, str):
        return _section(title, f"<p>{escape(scores)}</p>")

    def curve(name: str, reliability: Reliability) -> Line:
        name = f"{name}, off by {reliability.error:.3f}"
        return Line(name, reliability.score, reliability.similarity, dots=True)

    calibration, there = scores.calibration, scores.presence
    parts = [
        "<p>An honest keypoint score is the keypoint similarity that may be expected. Above the "
        "line, keypoints are better than their scores say.</p>",
        '<div class="charts">',
        line_chart(
            [
                curve("as it is", scores.before),
                curve("calibrated", scores.after),
                Line("honest", [0, 1], [0, 1], faint=True),
            ],
            "keypoint score",
            "keypoint similarity",
        ),
        "<div>",
        f"<p>The best calibration has a temperature of {calibration.temperature:.3f} and an offset "
        f"of {calibration.offset:.3f}: logit(calibrated) = logit(score) / temperature + offset. "
        "<code>--store-calibration</code> writes it into a copy of the weights. It was fitted on "
        "these people; measure it on others.</p>",
    ]
    if there is not None:
        after = float(calibration(np.array(there.threshold)))
        parts.append(
            f"<h3>Is the keypoint there?</h3><p>{there.labeled} keypoints are labeled, "
            f"{there.unlabeled} of the same people are not. A labeled one scores higher than one "
            f"without a label in {_percent(there.area)} of all pairs. A threshold of "
            f"{there.threshold:.2f} ({after:.2f} once calibrated) keeps {_percent(there.recall)} "
            f"of the labeled and drops {_percent(there.specificity)} of the others. The chance "
            f"that a keypoint of score s is there: 1 / (1 + exp(-({there.slope:.2f} logit(s) "
            f"{there.offset:+.2f}))). Keypoints without a label may be hidden, outside, or "
            "forgotten."
            "</p>"
        )
    return _section(title, *parts, "</div></div>")


def _persons(name: str, chosen: list[Example]) -> str:
    title, lead = _SHOWN[name]
    return _section(
        title,
        f"<p>{lead} Left limbs are blue and right ones orange, or in the skeleton's colors. Only "
        "labeled keypoints are drawn.</p>",
        '<div class="people">',
        *(_person(example) for example in chosen),
        "</div>",
    )


def _person(example: Example) -> str:
    wrong = "; ".join(
        f"{kind}: {', '.join(name.replace('_', ' ') for name in names)}"
        for kind, names in example.keypoints.items()
    )
    tiles = {"labeled": example.labeled, "found": example.found}
    tiles |= {f"{n.replace('_', ' ')}, heatmap": tile for n, tile in example.heatmaps.items()}
    figures = "".join(
        f'<figure><img src="{source(tile)}" width="{tile.shape[1]}" height="{tile.shape[0]}" '
        f'alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>'
        for label, tile in tiles.items()
    )
    return (
        f'<div class="person"><p><b>OKS {example.oks:.2f}, score {example.score:.2f}</b> '
        f"{escape(example.image)}, annotation {example.annotation}. {escape(wrong)}</p>"
        f"{figures}</div>"
    )


def _key() -> str:
    names = [kind.name.lower() for kind in KINDS]
    spans = (f'<span class="key {name}">{name}</span>' for name in names)
    return f"<p>{''.join(spans)}</p>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _more(gain: float) -> str:
    return f"{gain:+.3f}"
