"""A drawing of HRNet-W32: its branches and exchanges, from the table of networks."""

from hrpose.models.networks import NETWORKS
from tools.figures.svg import Drawing

LEFT, TOP, ROW, COLUMN, WIDE = 100, 74, 78, 74, 48
TALL = (50, 40, 32, 26)


def drawing(name: str = "w32", input_wh: tuple[int, int] = (192, 256)) -> str:
    """SVG of the network called `name`, for an input of `input_wh` pixels."""
    spec = NETWORKS[name]
    units = [(number, stage) for number, stage in enumerate(spec.stages, 2)
             for _ in range(stage.modules)]  # fmt: skip
    deepest = len(spec.stage4.widths)
    draw = Drawing(
        (LEFT + COLUMN * (len(units) + 2) + 104, TOP + ROW * deepest + 4),
        f"HRNet-{name.upper()}: {deepest} parallel branches and {len(units)} exchanges",
    )

    def middle(branch: int) -> float:
        return TOP + ROW * branch + TALL[0] / 2

    def left(column: int) -> float:
        return LEFT + COLUMN * column

    for branch, width in enumerate(spec.stage4.widths):
        part = 4 * 2**branch
        size = f"{input_wh[0] // part} x {input_wh[1] // part}"
        draw.words(4, middle(branch) - 17, f"1/{part}", "left")
        draw.words(4, middle(branch), size, "left small")
        draw.words(4, middle(branch) + 15, f"{width} channels", "left small")

    counts = [1, 1, *(len(stage.widths) for _, stage in units)]
    for column, (count, following) in enumerate(zip(counts, [*counts[1:], 1], strict=True)):
        start, end = left(column) + WIDE, left(column + 1)
        for source in range(count):
            for target in range(following):
                new = target >= count
                if new and source < count - 1:
                    continue
                straight = source == target
                draw.line(
                    (start, middle(source)), (end, middle(target)), 2.4 if straight else 1.1, new
                )

    def block(column: int, branch: int, words: str, kind: str) -> None:
        tall = TALL[branch]
        draw.box(left(column), middle(branch) - tall / 2, WIDE, tall, kind)
        draw.words(left(column) + WIDE / 2, middle(branch), words, "on")

    block(0, 0, "stem", "stem")
    block(1, 0, f"{spec.bottlenecks} x B", "b0")
    draw.words(left(1) + WIDE / 2, TOP - 44, "stage 1")
    draw.words(left(1) + WIDE / 2, TOP - 26, f"{4 * spec.bottleneck_width} ch.", "small")
    for column, (number, stage) in enumerate(units, 2):
        for branch in range(len(stage.widths)):
            block(column, branch, f"{stage.blocks} x R", f"b{branch}")
        if column == 2 or units[column - 3][0] != number:
            across = COLUMN * (stage.modules - 1) + WIDE
            draw.words(left(column) + across / 2, TOP - 44, f"stage {number}")
            draw.line((left(column), TOP - 28), (left(column) + across, TOP - 28), 1.5)
    end = len(units) + 2
    draw.box(left(end), middle(0) - TALL[0] / 2, 100, TALL[0], "head")
    draw.words(left(end) + 50, middle(0) - 9, "1x1 conv", "on")
    draw.words(left(end) + 50, middle(0) + 9, "17 heatmaps", "on")
    return draw.render()
