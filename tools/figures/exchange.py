"""A drawing of one exchange: the operations from every branch to every output, from the code."""

from torch import nn

from hrpose.models.hrnet import Exchange
from hrpose.models.networks import NETWORKS
from tools.figures.svg import Drawing

LEFT, TOP, ROW, CELL = 116, 44, 84, 176
TALL = (56, 46, 38, 30)


def drawing(name: str = "w32") -> str:
    """SVG of an exchange of stage 3: three branches in, three out."""
    widths = NETWORKS[name].stage3.widths
    unit = Exchange(widths, blocks=1, outputs=len(widths))
    count = len(widths)
    draw = Drawing(
        (LEFT + CELL * count + 136, TOP + ROW * count),
        f"An exchange between {count} branches: each output is a sum over all inputs",
    )
    for source, width in enumerate(widths):
        x = LEFT + CELL * source + CELL / 2
        draw.words(x, 14, f"from 1/{4 * 2**source}, {width} channels")
    for target, row in enumerate(unit.fuse_layers):
        middle = TOP + ROW * target + ROW / 2
        draw.words(4, middle - 8, f"to 1/{4 * 2**target},", "left")
        draw.words(4, middle + 9, f"{widths[target]} channels", "left")
        for source, path in enumerate(row.children()):
            x = LEFT + CELL * source
            tall = TALL[source]
            draw.box(x + 12, middle - tall / 2, CELL - 40, tall, f"b{source}")
            lines = steps(path)
            for place, words in enumerate(lines):
                draw.words(
                    x + CELL / 2 - 8, middle + 16 * (place - (len(lines) - 1) / 2), words, "on"
                )
            sign = "+" if source < count - 1 else "="
            draw.words(x + CELL - 10, middle, sign)
        x = LEFT + CELL * count
        draw.box(x + 8, middle - TALL[target] / 2, 112, TALL[target], f"b{target}")
        draw.words(x + 64, middle, "sum, ReLU", "on")
    return draw.render()


def steps(path: nn.Module) -> list[str]:
    """The operations of a path: its convolutions, then its upsampling."""
    convolutions = [part for part in path.modules() if isinstance(part, nn.Conv2d)]
    if not convolutions:
        return ["as it is"]
    kernel, stride = convolutions[0].kernel_size[0], convolutions[0].stride[0]
    words = [f"{kernel}x{kernel} conv" + (f", stride {stride}" if stride > 1 else "")]
    words += [f"{len(convolutions)} times"] if len(convolutions) > 1 else []
    words += [
        f"nearest, times {part.scale_factor:g}"
        for part in path.modules()
        if isinstance(part, nn.Upsample)
    ]
    return words
