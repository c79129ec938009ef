"""Pictures of numbers: heatmaps pixel by pixel, and the network as a drawing."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.drawing import LEFT, MIDDLE, keypoint_colours, shapes, text
from hrpose.drawing.heatmaps import colour_map, enlarged, overlay
from hrpose.drawing.palette import INK, PAPER
from hrpose.drawing.sheet import GROUND
from hrpose.explain.scenes import pointed
from hrpose.explain.trace import Floats, Trace
from hrpose.skeleton import Colour


def scale_of(trace: Trace) -> int:
    """How many times as large the view is shown: to about 400 pixels of height."""
    return max(1, round(400 / len(trace.view)))


def network_view(trace: Trace, mirrored: bool = False) -> NDArray[np.uint8]:
    """The view as it is, pixel for pixel, only larger."""
    scale = scale_of(trace)
    view = trace.view[:, ::-1] if mirrored else trace.view
    return np.ascontiguousarray(view.repeat(scale, axis=0).repeat(scale, axis=1))


def joint_tile(trace: Trace, joint: int) -> NDArray[np.uint8]:
    """A joint's merged heatmap over the view, with the place that was found."""
    scale = max(1, scale_of(trace) * 2 // 3)
    tile = overlay(trace.view, trace.merged[joint], trace.strides, scale)
    colour = keypoint_colours(trace.passport.skeleton)[joint]
    place = enlarged(trace.in_crop[joint], scale)
    shapes.ring(tile, place, tile.shape[0] / 36, 5, INK)
    shapes.ring(tile, place, tile.shape[0] / 36, 2, colour)
    return tile


def heat_tile(trace: Trace, heatmap: Floats, mirrored: bool = False) -> NDArray[np.uint8]:
    """A heatmap over the view or over its mirror image."""
    view = trace.view[:, ::-1] if mirrored else trace.view
    return overlay(view, heatmap, trace.strides, scale_of(trace))


def place_in_view(trace: Trace) -> NDArray[np.uint8]:
    """The joint in the view, with its coordinates."""
    place = trace.in_crop[trace.joint]
    label = f"({place[0]:.2f}, {place[1]:.2f})"
    return pointed(network_view(trace), enlarged(place, scale_of(trace)), label)


def place_in_heatmap(trace: Trace) -> NDArray[np.uint8]:
    """The joint in its heatmap, with its coordinates; every heatmap pixel is a square."""
    scale = max(1, round(trace.view.shape[0] * scale_of(trace) / trace.merged.shape[1]))
    squares = colour_map(trace.merged[trace.joint]).repeat(scale, axis=0).repeat(scale, axis=1)
    place = trace.in_heatmap[trace.joint]
    label = f"({place[0]:.2f}, {place[1]:.2f})"
    return pointed(np.ascontiguousarray(squares), enlarged(place, scale), label)


def pixels(trace: Trace, heatmap: Floats, *, arrow: bool = False) -> NDArray[np.uint8]:
    """The pixels around the joint's peak with their values, and the coordinates at the rim.

    The window is the same for every heatmap of a joint. The highest pixel has a white frame;
    `arrow` leads from it to the place that was found.
    """
    # Fewer and larger pixels where an arrow must be seen.
    reach, cell = (2, 128) if arrow else (3, 76)
    left, top = (int(value) - reach for value in trace.peaks[trace.joint])
    count, rim = 2 * reach + 1, 34
    canvas = np.full((count * cell + rim, count * cell + rim, 3), GROUND, np.uint8)
    height, width = heatmap.shape
    row, column = divmod(int(heatmap.argmax()), width)
    top_value = float(max(trace.merged[trace.joint].max(), 1e-6))
    for step in range(count):
        for words, at in (
            (str(left + step), (rim + (step + 0.5) * cell, rim / 2)),
            (str(top + step), (rim / 2, rim + (step + 0.5) * cell)),
        ):
            _centred(canvas, words, at, 17, (150, 156, 170))
    for y in range(count):
        for x in range(count):
            if not (0 <= left + x < width and 0 <= top + y < height):
                continue
            value = float(heatmap[top + y, left + x])
            # Relative to the peak, so that weak heatmaps show their form too.
            colour = colour_map(np.array([[0.08 + 0.9 * value / top_value]]))[0, 0]
            corner = (rim + x * cell, rim + y * cell)
            canvas[corner[1] + 1 : corner[1] + cell, corner[0] + 1 : corner[0] + cell] = colour
            ink = INK if float(colour @ np.array([0.3, 0.6, 0.1])) > 140 else PAPER
            middle = (corner[0] + cell / 2, corner[1] + cell * (0.82 if arrow else 0.5))
            # + 0.0 makes of -0.0 a plain zero.
            _centred(canvas, f"{round(value, 2) + 0.0:.2f}", middle, 19, ink)

    def on_canvas(place: Floats) -> Floats:
        corner: Floats = rim + (place - [left, top] + 0.5) * cell
        return corner

    frame = on_canvas(np.array([column, row], np.float64)) - cell / 2
    shapes.box(canvas, [*frame, cell, cell], 4, PAPER)
    if arrow:
        start = on_canvas(trace.peaks[trace.joint].astype(np.float64))
        end = on_canvas(trace.in_heatmap[trace.joint])
        shapes.disc(canvas, start, 6, INK)
        shapes.arrow(canvas, start, end, 5, INK)
        shapes.disc(canvas, start, 4, LEFT)
    return canvas


def score_bars(trace: Trace, threshold: float) -> NDArray[np.uint8]:
    """Every joint's score as a bar in its side's colour, and the threshold as a line."""
    names = [name.replace("_", " ") for name in trace.passport.skeleton.keypoints]
    size, row, left, wide = 20, 32, 200, 560
    canvas = np.full((row * len(names) + 24, left + wide + 90, 3), GROUND, np.uint8)
    colours = keypoint_colours(trace.passport.skeleton)
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        y = 12 + index * row
        score = float(trace.poses.keypoints[0, index, 2])
        shown: Colour = colour if score >= threshold else (96, 100, 112)
        text.write(canvas, (16, y + 3), text.shortened(name, size, left - 24), size, rim=None)
        canvas[y + 6 : y + row - 6, left : left + wide] = (40, 44, 54)
        canvas[y + 6 : y + row - 6, left : left + round(wide * score)] = shown
        text.write(canvas, (left + wide + 14, y + 3), f"{score:.2f}", size, rim=None)
    x = left + wide * threshold
    shapes.dashed(canvas, (x, 8), (x, canvas.shape[0] - 8), 2.5, PAPER, 6)
    return canvas


def network(trace: Trace) -> NDArray[np.uint8]:
    """HRNet as a drawing: four branches side by side, which exchange what they found."""
    canvas = np.full((476, 1080, 3), GROUND, np.uint8)
    width, height = trace.passport.input_wh
    tops, lefts = (60, 190, 305, 405), (150, 370, 590, 810)
    tall, wide = (84, 64, 50, 40), (150, 116, 92, 72)
    grey: Colour = (120, 128, 146)
    for stage in range(4):
        for branch in range(stage + 1):
            centre = (lefts[stage] + 75, tops[branch] + tall[branch] / 2)
            if stage < 3:
                for target in range(stage + 2):
                    start = (lefts[stage] + 75 + wide[branch] / 2 + 6, centre[1])
                    end = (
                        lefts[stage + 1] + 75 - wide[target] / 2 - 6,
                        tops[target] + tall[target] / 2,
                    )
                    straight = target == branch
                    shapes.arrow(canvas, start, end, 3.4 if straight else 1.8, grey)
            corner = (round(centre[0] - wide[branch] / 2), tops[branch])
            shade = (LEFT, (48, 132, 205), (64, 108, 160), (70, 88, 122))[branch]
            far = (corner[0] + wide[branch], corner[1] + tall[branch])
            cv2.rectangle(canvas, corner, far, shade, -1)
        _centred(canvas, f"stage {stage + 1}", (lefts[stage] + 75, 32), 21, PAPER)
    for branch in range(4):
        part = 4 * 2**branch
        words = f"{width // part} x {height // part}"
        _centred(canvas, words, (lefts[3] + 75, tops[branch] + tall[branch] / 2), 17, PAPER)
        under = (lefts[branch] + 75, tops[branch] + tall[branch] + 13)
        _centred(canvas, f"1/{part}", under, 15, (150, 156, 170))
    middle = tops[0] + tall[0] / 2
    _centred(canvas, "crop", (52, middle - 12), 20, PAPER)
    _centred(canvas, f"{width} x {height}", (52, middle + 14), 17, (150, 156, 170))
    shapes.arrow(canvas, (102, middle), (lefts[0] - 4, middle), 3.4, grey)
    shapes.arrow(canvas, (lefts[3] + 154, middle), (lefts[3] + 190, middle), 3.4, MIDDLE)
    count = len(trace.passport.skeleton)
    _centred(canvas, f"{count}", (1036, middle - 12), 20, MIDDLE)
    _centred(canvas, "heatmaps", (1036, middle + 14), 15, MIDDLE)
    return canvas


def _centred(
    canvas: NDArray[np.uint8], words: str, at: tuple[float, float], size: int, colour: Colour
) -> None:
    width, height = text.extent(words, size)
    text.write(canvas, (at[0] - width / 2, at[1] - height / 2), words, size, colour, rim=None)
