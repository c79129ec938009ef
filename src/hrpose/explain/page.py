"""The explanation of one pose: ten sections of text and figures, as one HTML page."""

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from hrpose.explain import figures as images
from hrpose.explain.trace import Trace
from hrpose.poses import COUNTED_SCORE, THRESHOLD
from hrpose.viz.html import document, source


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """An image (h, w, 3) uint8 RGB and its caption. A `smooth` one may be compressed with loss."""

    image: NDArray[np.uint8]
    caption: str
    smooth: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """A step of the method: paragraphs, lines of arithmetic, and figures in `columns`."""

    title: str
    text: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    arithmetic: tuple[str, ...] = ()
    columns: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A title, an introduction, and the sections in order."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def report(trace: Trace, name: str, threshold: float = THRESHOLD) -> Report:
    """The explanation of one person's pose in the image called `name`.

    Keypoints with a score below `threshold`, in [0, 1], are not drawn.
    """
    metadata = trace.metadata
    height, width = trace.image.shape[:2]
    return Report(
        f"How HRNet estimates a pose in {name}",
        f"An image of {width} x {height} pixels goes in, the positions of "
        f"{len(metadata.skeleton)} keypoints come out. This page follows one person through every "
        f"step, with the weights {metadata.title}. All images and numbers are computed from this "
        "image.",
        (
            _box(trace), _crop(trace), _input(trace), _network(trace), _heatmaps(trace),
            _flip_test(trace), _decoding(trace), _to_image(trace), _skeleton(trace, threshold),
            _scores(trace, threshold),
        ),
    )  # fmt: skip


def _box(trace: Trace) -> Section:
    x, y, w, h = trace.box
    return Section(
        "1. A box around the person",
        (
            "HRNet processes one person at a time. A different model, a person detector, first "
            "searches the whole image and puts a box around every person. This approach is called "
            "top-down: first the people, then the keypoints of each.",
            f"{trace.box_from} It starts at x = {x:.0f}, y = {y:.0f} and "
            f"is {w:.0f} pixels wide and {h:.0f} high. x counts to the right and y counts down; "
            "(0, 0) is the center of the first pixel.",
        ),
        (Figure(images.box_on_image(trace), "The image and the person's box."),),
    )


def _crop(trace: Trace) -> Section:
    metadata = trace.metadata
    (in_w, in_h), (w, h) = metadata.input_wh, trace.box[2:]
    crop_w, crop_h = trace.crop.size
    shape_w, shape_h = crop_w / metadata.padding, crop_h / metadata.padding
    grown = "wider" if shape_w > w + 1e-6 else "higher" if shape_h > h + 1e-6 else ""
    shape = (
        f"The box grows around its center, here it becomes {grown}, until it has that shape"
        if grown
        else "This box already has that shape"
    )
    return Section(
        "2. From the box to the crop",
        (
            f"The network takes images of {in_w} x {in_h} pixels only. Squeezing the box into "
            "that would make people thinner or wider, so the box is first given the same aspect "
            f"ratio. {shape} (dashed blue).",
            f"Then it grows by a factor of {metadata.padding:g} (orange), so that hands and feet "
            "at the edge of the box stay visible, with a little of their surroundings. Where the "
            "crop extends beyond the image, the network sees black.",
        ),
        (
            Figure(
                images.crop_on_image(trace),
                "White: the box. Dashed blue: the box in the input's shape. Orange: the crop.",
            ),
        ),
        (
            f"box    {w:.1f} x {h:.1f}",
            f"shape  {shape_w:.1f} x {shape_h:.1f}   (width : height = {in_w} : {in_h})",
            f"crop   {crop_w:.1f} x {crop_h:.1f}   ({metadata.padding:g} times that)",
        ),
    )


def _input(trace: Trace) -> Section:
    metadata = trace.metadata
    (width, height), scale = metadata.input_wh, metadata.input_wh[0] / trace.crop.size[0]
    mean = ", ".join(f"{value:.3f}" for value in metadata.mean)
    std = ", ".join(f"{value:.3f}" for value in metadata.std)
    return Section(
        "3. The network's input",
        (
            "One affine map cuts the crop out and resizes it: every pixel of the input is "
            "interpolated between the four nearest pixels of the image. One pixel of the image "
            f"becomes {scale:.2f} pixels of the input. This is all the network knows of the image: "
            "what you cannot see here, it cannot see either.",
            f"The colors go in as numbers: red, green and blue from 0 to 1, minus {mean}, "
            f"divided by {std}. These are the mean and the standard deviation of ImageNet.",
            "The mirror image goes through the network too; step 6 explains why.",
        ),
        (
            Figure(images.network_input(trace), f"The input, {width} x {height} pixels, enlarged."),
            Figure(images.network_input(trace, mirrored=True), "Its mirror image."),
        ),
        columns=2,
    )


def _network(trace: Trace) -> Section:
    (width, height), (heat_w, heat_h) = trace.metadata.input_wh, trace.metadata.heatmap_wh
    return Section(
        "4. Inside the network",
        (
            "To recognize a wrist, a network must see the arm, the body and what is around them. "
            "That is easier in a small, coarse image. To locate the wrist exactly, it needs a fine "
            "one. Earlier networks make the image coarse first and fine again afterwards, and lose "
            "exact positions on the way.",
            "HRNet (High-Resolution Net) keeps the fine image. Its first branch has a "
            f"quarter of the input's size, {heat_w} x {heat_h}, from beginning to end. "
            "Stage by stage it adds coarser branches in parallel, and all branches repeatedly "
            "exchange their features: the coarse ones tell what is there, the fine one where "
            "exactly.",
            f"At the end, one layer turns the fine branch into {len(trace.metadata.skeleton)} "
            f"images of {heat_w} x {heat_h} numbers, one for each keypoint: the heatmaps.",
        ),
        (
            Figure(
                images.network(trace),
                f"Four branches, here for an input of {width} x {height}. Arrows to the right keep "
                "the size; arrows down make a coarser image, arrows up a finer one.",
                smooth=False,
            ),
        ),
    )


def _heatmaps(trace: Trace) -> Section:
    names = [name.replace("_", " ") for name in trace.metadata.skeleton.keypoints]
    return Section(
        f"5. {len(names)} heatmaps",
        (
            "Each heatmap answers one question for every place in the crop: is the keypoint here? "
            "Bright means yes. In training, the target was a small round peak of height 1 (a "
            f"Gaussian, sigma {trace.metadata.codec.sigma:g} heatmap pixels) where the keypoint "
            "was labeled, and zero everywhere else.",
            "A confident network produces one small bright spot. A wide, dim cloud means that it "
            "is unsure; two spots mean that it hesitates between two places, often left and right. "
            "The ring marks the chosen place, the number is the value of the highest pixel. Left "
            "and right are those of the person.",
        ),
        tuple(
            Figure(images.keypoint_tile(trace, index), f"{name}: {float(trace.peaks[index]):.2f}")
            for index, name in enumerate(names)
        ),
        columns=6,
    )


def _flip_test(trace: Trace) -> Section:
    metadata, keypoint = trace.metadata, trace.keypoint
    twin = metadata.skeleton.keypoints[trace.twin].replace("_", " ")
    aligned = metadata.codec.flip_back(trace.mirrored, metadata.skeleton.flip_permutation)
    crossing = (
        f"Left and right change places in a mirror, so the {trace.name} is found as the {twin}."
        if trace.twin != keypoint
        else f"The {trace.name} has no other side and stays what it is."
    )
    if metadata.codec.unit_lengths:
        caption = "Flipped back."
        shift = (
            "These weights count lengths between the centers of pixels (the UDP codec), so the "
            "mirrored pixels fall exactly on the direct ones and the two are simply averaged."
        )
    else:
        caption = "Flipped back and shifted by one."
        shift = (
            "One detail remains. A heatmap pixel stands for four pixels of the input and sits on "
            "the first of them; in the mirror the first becomes the last, so the flipped heatmap "
            "is three quarters of a pixel too far to the left. The official code moves it by "
            "one whole pixel to the right, which is close to that, and takes the mean."
        )
    return Section(
        f"6. The flip test, for the {trace.name}",
        (
            "A person and the mirror image are equally good inputs, but the network's errors "
            "on the two differ. The mean of both heatmaps has smaller ones, for twice the work.",
            f"The heatmaps of the mirror image must be flipped back first. {crossing}",
            shift,
        ),
        (
            Figure(
                images.heat_tile(trace, trace.direct[keypoint]),
                f"Direct: the {trace.name} in the crop.",
            ),
            Figure(
                images.heat_tile(trace, trace.mirrored[trace.twin], mirrored=True),
                f"Mirrored: the {twin} in the mirror image.",
            ),
            Figure(
                images.heat_tile(trace, trace.flipped_back[keypoint]),
                f"Flipped back: the {trace.name} again.",
            ),
            Figure(images.pixels(trace, trace.direct[keypoint]), "Direct, pixel by pixel.", False),
            Figure(images.pixels(trace, aligned[keypoint]), caption, False),
            Figure(images.pixels(trace, trace.merged[keypoint]), "The mean of both.", False),
        ),
        columns=3,
    )


def _decoding(trace: Trace) -> Section:
    """The quarter offset or the Taylor step, whichever the codec uses."""
    codec, heatmap = trace.metadata.codec, trace.merged[trace.keypoint]
    (x, y), position = trace.peak_pixels[trace.keypoint], trace.in_heatmap[trace.keypoint]
    text = (
        "The highest pixel of the heatmap (its argmax) is roughly where the keypoint is. But "
        "keypoints do not sit on whole pixels."
    )
    lines = [f"highest pixel  ({x}, {y}), value {heatmap[y, x]:.3f}"]
    move_x, move_y = (float(value) for value in position - (x, y))
    if codec.name == "gaussian":
        digits = 2
        text += (
            " If the true place is a little to the right, the right neighbor is brighter than the "
            "left one."
        )
        rule = (
            "So HRNet's authors use a simple rule, the quarter offset: along x and along y, the "
            "position moves by a quarter of a pixel toward the brighter neighbor. "
        ) + (
            "Here the arrow shows the move."
            if move_x or move_y
            else "This peak does not move: it is at the border, or its neighbors are equal."
        )
        if 1 < x < heatmap.shape[1] - 1 and 1 < y < heatmap.shape[0] - 1:
            left, right = (float(heatmap[y, x + step]) for step in (-1, 1))
            above, below = (float(heatmap[y + step, x]) for step in (-1, 1))
            lines += [
                f"x: left {left:.3f}, right {right:.3f}   {_step(move_x)}",
                f"y: above {above:.3f}, below {below:.3f}   {_step(move_y)}",
            ]
    else:
        digits = 3
        text += " The true peak is between them."
        rule = (
            f"These weights use the codec '{codec.name}'. The heatmap is smoothed a little, so "
            "that it has one clean peak. The peak is a Gaussian, and the logarithm of a Gaussian "
            "is a parabola, whose top can be computed: from the slope and the curvature at the "
            "highest pixel, one step of Newton's method leads to it (DARK, Zhang et al., 2020). "
            "HRNet's original rule, a quarter of a pixel toward the brighter neighbor, is a "
            "rough form of the same idea."
        )
        lines.append(f"Newton's step  ({move_x:+.3f}, {move_y:+.3f})")
    lines.append(f"position       ({position[0]:.{digits}f}, {position[1]:.{digits}f})")
    return Section(
        f"7. One keypoint, pixel by pixel: the {trace.name}",
        (text, rule),
        (
            Figure(
                images.pixels(trace, heatmap, arrow=True),
                "The highest pixel has a white frame. The arrow leads from its center to the "
                "position.",
                smooth=False,
            ),
        ),
        tuple(lines),
    )


def _step(move: float) -> str:
    return f"move {move:+.2f}" if move else "no move"


def _to_image(trace: Trace) -> Section:
    strides = trace.strides
    in_image = strides[0] / trace.metadata.input_wh[0] * trace.crop.size[0]
    hx, hy = trace.in_heatmap[trace.keypoint]
    cx, cy = trace.in_crop[trace.keypoint]
    px, py, _ = (float(value) for value in trace.poses.keypoints[0, trace.keypoint])
    (a, b, c), (d, e, f) = trace.crop.inverse_matrix
    return Section(
        "8. Back to the image",
        (
            "The position is known in heatmap pixels. A heatmap pixel is "
            f"{strides[0]:.4g} pixels of the input, so the position is multiplied by that. Then "
            "the inverse of the map of step 3 is applied. It is exact, so nothing is lost.",
            f"One heatmap pixel is {in_image:.1f} pixels of this image. That is why step 7 "
            "interpolates between the pixels, and why networks with larger inputs are more exact.",
        ),
        (
            Figure(images.keypoint_in_heatmap(trace), "In the heatmap.", False),
            Figure(images.keypoint_in_input(trace), "In the input."),
            Figure(images.keypoint_on_image(trace), "In the image."),
        ),
        (
            f"input  ({hx:.2f} * {strides[0]:.4g}, {hy:.2f} * {strides[1]:.4g})"
            f" = ({cx:.2f}, {cy:.2f})",
            f"x = {a:.4f} * {cx:.2f} {_signed(b)} * {cy:.2f} {_signed(c, 2)} = {px:.2f}",
            f"y = {d:.4f} * {cx:.2f} {_signed(e)} * {cy:.2f} {_signed(f, 2)} = {py:.2f}",
        ),
        columns=3,
    )


def _signed(value: float, digits: int = 4) -> str:
    sign = "-" if round(value, digits) < 0 else "+"
    return f"{sign} {abs(value):.{digits}f}"


def _skeleton(trace: Trace, threshold: float) -> Section:
    present = int((trace.poses.keypoints[0, :, 2] >= threshold).sum())
    count = len(trace.metadata.skeleton)
    return Section(
        "9. The skeleton",
        (
            "The same is done for every keypoint, and lines join the keypoints of a limb: blue "
            "for the person's left side, orange for the right, green for the middle. "
            f"{present} of {count} keypoints have a score of at least {threshold:g} and are drawn. "
            "The network gives a position for all of them, even for feet that are outside the "
            "image; the score says which to trust.",
        ),
        (Figure(images.pose_on_image(trace, threshold), "The finished pose."),),
    )


def _scores(trace: Trace, threshold: float) -> Section:
    scores = trace.poses.keypoints[0, :, 2]
    counted = scores[scores > COUNTED_SCORE]
    mean = float(np.mean(counted)) if len(counted) else 0.0
    peak = (
        "the value of the highest pixel of its heatmap, clipped to 0 and 1. In training the target "
        "was 1 high, so a high peak means that this looks like the keypoints in the training data."
    )
    if trace.metadata.calibration is None:
        meaning = (
            f"A keypoint's score is {peak} It is not a probability: 0.8 does not mean correct in "
            "80 of 100 cases, other weights give other values, and a network can be confident and "
            "wrong. Use it to compare keypoints, and choose a threshold on images of your own."
        )
    else:
        meaning = (
            f"A keypoint's score begins as {peak} These weights carry a calibration, which turns "
            "it into the accuracy to expect, where 1 is exactly right. It was fitted on labeled "
            "people; on other images a network can still be confident and wrong."
        )
    return Section(
        "10. What the scores mean",
        (
            meaning,
            f"The score of the pose is the mean of its keypoint scores above {COUNTED_SCORE:g}, "
            f"times the score of the box: {mean:.2f} here, with {len(counted)} of {len(scores)} "
            "keypoints counted and a box score of 1.",
        ),
        (
            Figure(
                images.score_bars(trace, threshold),
                f"The keypoints' scores; the dashed line is the threshold of {threshold:g}.",
                smooth=False,
            ),
        ),
    )


def render(explanation: Report) -> str:
    """The page as HTML. All text of the report is escaped."""
    return document(
        explanation.title,
        "hrpose.explain",
        header=f"<p>{escape(explanation.lead)}</p>",
        main="\n".join(_section(section) for section in explanation.sections),
        footer="Method: Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for "
        "Human Pose Estimation, CVPR 2019. Made by hrpose.",
    )


def _section(section: Section) -> str:
    text = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    lines = "\n".join(escape(line) for line in section.arithmetic)
    code = f"\n<pre>{lines}</pre>" if lines else ""
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return f"""<section>
<h2>{escape(section.title)}</h2>
{text}{code}
<div class="figures" style="--columns: {section.columns}">
{figures}
</div>
</section>"""


def _figure(figure: Figure) -> str:
    data = source(figure.image, ".jpg" if figure.smooth else ".png")
    height, width = figure.image.shape[:2]
    caption = escape(figure.caption)
    return (
        f'<figure><img src="{data}" width="{width}" height="{height}" '
        f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
