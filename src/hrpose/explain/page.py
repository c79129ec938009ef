"""The story as one HTML page."""

from html import escape

import numpy as np

from hrpose.explain import figures as figures_module
from hrpose.explain.sections import Figure, Section, Story, decoding
from hrpose.explain.trace import Trace
from hrpose.poses import COUNTED_SCORE, THRESHOLD
from hrpose.viz.html import document, source


def tell(trace: Trace, name: str, threshold: float = THRESHOLD) -> Story:
    """The story of one person in the image called `name`."""
    metadata = trace.metadata
    height, width = trace.image.shape[:2]
    return Story(
        title=f"How HRNet finds a pose in {name}",
        lead=(
            f"An image of {width} x {height} pixels goes in, the places of "
            f"{len(metadata.skeleton)} "
            "keypoints come out. This page follows one person through every step, with the "
            "weights "
            f"{metadata.title}. All images and numbers below are the real ones of this image."
        ),
        sections=(
            _box(trace), _crop(trace), _view(trace), _network(trace), _heatmaps(trace),
            _flip(trace), decoding(trace), _way_back(trace), _skeleton(trace, threshold),
            _scores(trace, threshold),
        ),
    )  # fmt: skip


def _box(trace: Trace) -> Section:
    x, y, w, h = trace.box
    return Section(
        "1. A box around the person",
        (
            "HRNet looks at one person at a time. Another program, a person detector, looks at "
            "the whole image first and puts a box around every person. This way is called "
            "top-down: first the people, then the keypoints of each.",
            f"{trace.box_from} It starts at x = {x:.0f}, y = {y:.0f} and "
            f"is {w:.0f} pixels wide and {h:.0f} high. x counts to the right and y counts down; "
            "(0, 0) is the center of the image's first pixel.",
        ),
        (Figure(figures_module.box_on_image(trace), "The image and the person's box."),),
    )


def _crop(trace: Trace) -> Section:
    metadata = trace.metadata
    (in_w, in_h), (w, h) = metadata.input_wh, trace.box[2:]
    crop_w, crop_h = trace.crop.size
    even = (crop_w / metadata.padding, crop_h / metadata.padding)
    grown = "wider" if even[0] > w + 1e-6 else "higher" if even[1] > h + 1e-6 else ""
    shape = (
        f"The box grows around its center, here it becomes {grown}, until it has that shape"
        if grown
        else "This box has that shape already"
    )
    return Section(
        "2. From the box to the crop",
        (
            f"The network takes images of {in_w} x {in_h} pixels only. Squeezing the box into "
            f"that would make people thin or fat, so the box must get the same shape first. "
            f"{shape} (dashed blue).",
            f"Then it grows by a factor of {metadata.padding:g} (orange), so that hands and feet "
            "at the edge of the box stay in sight, and a little of what is around them. Where the "
            "crop reaches beyond the image, the network sees black.",
        ),
        (
            Figure(
                figures_module.crop_on_image(trace),
                "White: the box. Dashed blue: the box in the input's shape. Orange: the crop.",
            ),
        ),
        (
            f"box    {w:.1f} x {h:.1f}",
            f"shape  {even[0]:.1f} x {even[1]:.1f}   (width : height = {in_w} : {in_h})",
            f"crop   {crop_w:.1f} x {crop_h:.1f}   ({metadata.padding:g} times that)",
        ),
    )


def _view(trace: Trace) -> Section:
    metadata = trace.metadata
    mean = ", ".join(f"{value:.3f}" for value in metadata.mean)
    std = ", ".join(f"{value:.3f}" for value in metadata.std)
    scale = metadata.input_wh[0] / trace.crop.size[0]
    return Section(
        "3. What the network sees",
        (
            "One affine map cuts the crop out and resizes it: every pixel of the input is looked "
            f"up in the image, between its four nearest pixels. One pixel of the image becomes "
            f"{scale:.2f} pixels of the input. This is all the network knows of the image; what "
            "you cannot see in this small image, it cannot see either.",
            f"The colors go in as numbers: red, green and blue from 0 to 1, minus {mean}, "
            f"divided by {std}. These are the mean and the spread of the ImageNet images.",
            "The mirror image goes through the network too. Why is told in step 6.",
        ),
        (
            Figure(
                figures_module.network_view(trace),
                f"The input, {metadata.input_wh[0]} x {metadata.input_wh[1]} pixels, enlarged.",
            ),
            Figure(figures_module.network_view(trace, mirrored=True), "Its mirror image."),
        ),
        columns=2,
    )


def _network(trace: Trace) -> Section:
    width, height = trace.metadata.input_wh
    heat_w, heat_h = trace.metadata.heatmap_wh
    return Section(
        "4. Inside the network",
        (
            "To know that a blob is a wrist, a network must see the arm, the body, the whole "
            "scene. That is easier in a small, coarse image. To know exactly where the wrist is, "
            "it needs a fine one. Older networks make the image coarse first and fine again "
            "afterwards, and lose exact places on the way.",
            "HRNet (High-Resolution Net) never gives the fine image up. Its first branch keeps a "
            f"quarter of the input's size, {heat_w} x {heat_h}, from the beginning to the end. "
            "Stage by stage it adds coarser branches beside it, and again and again all branches "
            "exchange what they found: the coarse ones say what is where, the fine one says where "
            "exactly.",
            f"At the end, one layer turns the fine branch into {len(trace.metadata.skeleton)} "
            f"images of {heat_w} x {heat_h} numbers, one for each keypoint: the heatmaps.",
        ),
        (
            Figure(
                figures_module.network(trace),
                f"Four branches, here for an input of {width} x {height}. Arrows to the right keep "
                "the size; arrows down make a coarser image, arrows up a finer one.",
                smooth=False,
            ),
        ),
    )


def _heatmaps(trace: Trace) -> Section:
    metadata = trace.metadata
    names = [name.replace("_", " ") for name in metadata.skeleton.keypoints]
    figures = tuple(
        Figure(
            figures_module.keypoint_tile(trace, keypoint),
            f"{name}: {float(trace.scores[keypoint]):.2f}",
        )
        for keypoint, name in enumerate(names)
    )
    return Section(
        f"5. {len(figures)} heatmaps",
        (
            "Each heatmap answers one question for every place in the crop: is the keypoint here? "
            "Bright means yes. In training the network was shown what to paint: a small round "
            f"hill of height 1 (a Gaussian, sigma {metadata.codec.sigma:g} heatmap pixels) where "
            "the keypoint was marked, and zero everywhere else.",
            "A sure network paints one small bright spot. A wide, dim cloud means that it is not "
            "sure; two spots mean that it wavers between two places, often left and right. The "
            "ring is the place that is chosen, the number is the height of the highest pixel. "
            "Left and right are the person's own.",
        ),
        figures,
        columns=6,
    )


def _flip(trace: Trace) -> Section:
    metadata, keypoint = trace.metadata, trace.keypoint
    twin = metadata.skeleton.keypoints[trace.twin].replace("_", " ")
    shifted = metadata.codec.flip_back(trace.mirrored, metadata.skeleton.flip_permutation)
    crossing = (
        f"Left and right change places in a mirror, so the {trace.name} is found as the {twin}."
        if trace.twin != keypoint
        else f"The {trace.name} has no other side and stays what it is."
    )
    steps = [
        Figure(
            figures_module.heat_tile(trace, trace.direct[keypoint]),
            f"Direct: the {trace.name} in the crop.",
        ),
        Figure(
            figures_module.heat_tile(trace, trace.mirrored[trace.twin], mirrored=True),
            f"Mirrored: the {twin} in the mirror image.",
        ),
        Figure(
            figures_module.heat_tile(trace, trace.turned_back[keypoint]),
            f"Turned back: it is the {trace.name} again.",
        ),
        Figure(
            figures_module.pixels(trace, trace.direct[keypoint]), "Direct, pixel by pixel.", False
        ),
    ]
    if metadata.codec.unit_lengths:
        shift = (
            "These weights count lengths between the centers of pixels (the UDP codec), so the "
            "mirrored pixels fall exactly on the direct ones and the two are simply averaged."
        )
        steps.append(
            Figure(figures_module.pixels(trace, trace.turned_back[keypoint]), "Turned back.", False)
        )
    else:
        shift = (
            "One thing is left. A heatmap pixel stands for four pixels of the input and sits on "
            "the first of them; in the mirror the first becomes the last, so the turned heatmap "
            "is three quarters of a pixel too far to the left. The official code moves it by "
            "one whole pixel to the right, which is nearly that, and takes the mean."
        )
        steps.append(
            Figure(
                figures_module.pixels(trace, shifted[keypoint]), "Turned and shifted by one.", False
            )
        )
    steps.append(
        Figure(figures_module.pixels(trace, trace.merged[keypoint]), "The mean of both.", False)
    )
    return Section(
        f"6. Two views: the flip test, for the {trace.name}",
        (
            "A person and its mirror image are equally good images, but the network's mistakes "
            "on the two are not the same. The mean of both heatmaps has fewer. The price is twice "
            "the work.",
            f"The mirror image's heatmaps must be turned back first. {crossing}",
            shift,
        ),
        tuple(steps),
        columns=3,
    )


def _way_back(trace: Trace) -> Section:
    strides = trace.strides
    in_image = strides[0] / trace.metadata.input_wh[0] * trace.crop.size[0]
    hx, hy = trace.in_heatmap[trace.keypoint]
    cx, cy = trace.in_crop[trace.keypoint]
    px, py, _ = (float(value) for value in trace.poses.keypoints[0, trace.keypoint])
    (a, b, c), (d, e, f) = trace.crop.inverse_matrix
    return Section(
        "8. The way back to the image",
        (
            f"The place is known in heatmap pixels. A heatmap pixel is {strides[0]:.4g} pixels of "
            "the input, so the place is multiplied by that. Then the map of step 3 is taken "
            "backwards. It is the exact inverse, so nothing is lost on the way.",
            f"One heatmap pixel is {in_image:.1f} pixels of this image. That is why step 7 looks "
            "between the pixels, and why networks with larger inputs find more exact places.",
        ),
        (
            Figure(figures_module.place_in_heatmap(trace), "In the heatmap.", False),
            Figure(figures_module.place_in_view(trace), "In the input."),
            Figure(figures_module.point_on_image(trace), "In the image."),
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
            "The same is done for every keypoint, and the keypoints of a limb are joined by a "
            "line: blue "
            "for the person's left side, orange for the right, green for the middle. "
            f"{present} of {count} keypoints have a score of at least {threshold:g} and are drawn. "
            "The network always names a place for all of them, even for feet that are not in the "
            "image; the score says which to believe.",
        ),
        (Figure(figures_module.pose_on_image(trace, threshold), "The finished pose."),),
    )


def _scores(trace: Trace, threshold: float) -> Section:
    scores = trace.poses.keypoints[0, :, 2]
    counted = scores[scores > COUNTED_SCORE]
    mean = float(np.mean(counted)) if len(counted) else 0.0
    peak = (
        "the height of its heatmap's highest pixel, cut to 0 and 1. In training the hill to paint "
        "was 1 high, so a high peak says: this looks like the keypoints I was shown."
    )
    if trace.metadata.calibration is None:
        meaning = (
            f"A keypoint's score is {peak} It is not a probability. 0.8 does not mean right in 80 "
            "of "
            "100 cases, other weights have other habits, and a network can be sure and wrong. Use "
            "it to compare keypoints, and choose a threshold by looking at images of your own."
        )
    else:
        meaning = (
            f"A keypoint's score begins as {peak} These weights carry a calibration, which makes "
            "of "
            "it how near to the truth the keypoint is to be expected, 1 being right on it: so it "
            "was "
            "on the people whom it was fitted to. On other images a network can still be sure and "
            "wrong."
        )
    return Section(
        "10. What the scores mean",
        (
            meaning,
            f"The pose as a whole gets the mean of its keypoints above {COUNTED_SCORE:g}, times "
            "the "
            f"score of the box: {mean:.2f} here, with {len(counted)} of {len(scores)} keypoints "
            "counted and a box score of 1.",
        ),
        (
            Figure(
                figures_module.score_bars(trace, threshold),
                f"The keypoints' scores; the dashed line is the threshold of {threshold:g}.",
                smooth=False,
            ),
        ),
    )


def render(story: Story) -> str:
    """The whole page. Every word of the story is escaped."""
    return document(
        story.title,
        "hrpose.explain",
        header=f"<p>{escape(story.lead)}</p>",
        main="\n".join(_section(section) for section in story.sections),
        footer="Method: Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for "
        "Human Pose Estimation, CVPR 2019. Made by hrpose.",
    )


def _section(section: Section) -> str:
    text = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    working = "\n".join(escape(line) for line in section.working)
    code = f"\n<pre>{working}</pre>" if working else ""
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
