"""The networks: rows of a table, and the way through them, for any kind of operations.

`hrpose.models.hrnet` builds them with PyTorch; `forward` here is the same way as a function of the
operations, by which `hrpose.models.onnx_graph` writes ONNX and `state_shapes` lists the weights.

The paper (section 3, "Network instantiation") writes an HRNet as four stages. Each stage runs
`modules` exchange units; in a unit every parallel branch has `blocks` residual blocks of its
width. Stage 1 is the stem followed by bottlenecks at one resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hrpose.errors import UserError

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One multi-resolution stage: widths of its branches, finest first."""

    modules: int
    widths: tuple[int, ...]
    blocks: int = 4


@dataclass(frozen=True, slots=True)
class HRNetSpec:
    """A network. A bottleneck has four times its inner `bottleneck_width` output channels."""

    name: str
    bottlenecks: int
    bottleneck_width: int
    stage2: StageSpec
    stage3: StageSpec
    stage4: StageSpec
    stem_width: int = 64

    @property
    def stages(self) -> tuple[StageSpec, StageSpec, StageSpec]:
        return self.stage2, self.stage3, self.stage4


NETWORKS: dict[str, HRNetSpec] = {
    spec.name: spec
    for spec in (
        HRNetSpec(
            "w32",
            bottlenecks=4,
            bottleneck_width=64,
            stage2=StageSpec(1, (32, 64)),
            stage3=StageSpec(4, (32, 64, 128)),
            stage4=StageSpec(3, (32, 64, 128, 256)),
        ),
        HRNetSpec(
            "w48",
            bottlenecks=4,
            bottleneck_width=64,
            stage2=StageSpec(1, (48, 96)),
            stage3=StageSpec(4, (48, 96, 192)),
            stage4=StageSpec(3, (48, 96, 192, 384)),
        ),
        HRNetSpec(
            "w16-small",
            bottlenecks=1,
            bottleneck_width=32,
            stage2=StageSpec(1, (16, 32), blocks=2),
            stage3=StageSpec(1, (16, 32, 64), blocks=2),
            stage4=StageSpec(1, (16, 32, 64, 128), blocks=2),
        ),
        HRNetSpec(
            "w32-small",
            bottlenecks=1,
            bottleneck_width=32,
            stage2=StageSpec(1, (32, 64), blocks=2),
            stage3=StageSpec(1, (32, 64, 128), blocks=2),
            stage4=StageSpec(1, (32, 64, 128, 256), blocks=2),
        ),
    )
}


class Operations(Protocol[T]):
    """What a network is made of, on features T of any kind."""

    def conv(self, x: T, name: str, norm: str | None, width: int, kernel: int, stride: int) -> T:
        """A convolution to `width` channels that keeps the size (divided by `stride`), with the
        weights `name`.weight, and the BatchNorm `norm` behind it, or `name`.bias where it has none.
        """
        ...

    def relu(self, x: T) -> T: ...

    def add(self, x: T, y: T) -> T: ...

    def upsample(self, x: T, factor: int) -> T:
        """Nearest neighbor."""
        ...


def forward(spec: HRNetSpec, num_keypoints: int, to: Operations[T], x: T) -> T:
    """From a normalized image of 3 channels to one heatmap for each keypoint.

    The names of weights and the order in which they are read are those of the official state dict.
    """

    def conv(
        x: T, name: str, norm: str, width: int, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> T:
        y = to.conv(x, name, norm, width, kernel, stride)
        return to.relu(y) if relu else y

    def bottleneck(x: T, at: str, project: bool) -> T:
        inner, wide = spec.bottleneck_width, 4 * spec.bottleneck_width
        y = conv(x, f"{at}.conv1", f"{at}.bn1", inner, 1)
        y = conv(y, f"{at}.conv2", f"{at}.bn2", inner)
        y = conv(y, f"{at}.conv3", f"{at}.bn3", wide, 1, relu=False)
        if project:
            x = conv(x, f"{at}.downsample.0", f"{at}.downsample.1", wide, 1, relu=False)
        return to.relu(to.add(y, x))

    def block(x: T, at: str, width: int) -> T:
        y = conv(x, f"{at}.conv1", f"{at}.bn1", width)
        y = conv(y, f"{at}.conv2", f"{at}.bn2", width, relu=False)
        return to.relu(to.add(y, x))

    def descend(x: T, at: str, before: int, after: int, steps: int, relu: bool) -> T:
        for step in range(steps):
            last = step == steps - 1
            names = f"{at}.{step}.0", f"{at}.{step}.1"
            x = conv(x, *names, after if last else before, stride=2, relu=relu or not last)
        return x

    def transition(x: list[T], at: str, before: Sequence[int], after: Sequence[int]) -> list[T]:
        paths = []
        for branch, width in enumerate(after):
            path = f"{at}.{branch}"
            if branch >= len(before):
                steps = branch - len(before) + 1
                paths.append(descend(x[-1], path, before[-1], width, steps, relu=True))
            elif before[branch] == width:
                paths.append(x[branch])
            else:
                paths.append(conv(x[branch], f"{path}.0", f"{path}.1", width))
        return paths

    def exchange(x: list[T], at: str, stage: StageSpec, outputs: int) -> list[T]:
        widths = stage.widths
        for branch, width in enumerate(widths):
            for number in range(stage.blocks):
                x[branch] = block(x[branch], f"{at}.branches.{branch}.{number}", width)
        sums = []
        for target in range(outputs):
            terms = [
                path(x[source], f"{at}.fuse_layers.{target}.{source}", widths, source, target)
                for source in range(len(widths))
            ]
            total = terms[0]
            for term in terms[1:]:
                total = to.add(total, term)
            sums.append(to.relu(total))
        return sums

    def path(x: T, at: str, widths: Sequence[int], source: int, target: int) -> T:
        if source == target:
            return x
        if source > target:
            x = conv(x, f"{at}.0", f"{at}.1", widths[target], 1, relu=False)
            return to.upsample(x, 2 ** (source - target))
        return descend(x, at, widths[source], widths[target], target - source, relu=False)

    x = conv(x, "conv1", "bn1", spec.stem_width, stride=2)
    x = conv(x, "conv2", "bn2", spec.stem_width, stride=2)
    before: Sequence[int] = (4 * spec.bottleneck_width,)
    for number in range(spec.bottlenecks):
        x = bottleneck(x, f"layer1.{number}", number == 0 and spec.stem_width != before[0])
    branches = [x]
    for number, stage in enumerate(spec.stages, start=2):
        branches = transition(branches, f"transition{number - 1}", before, stage.widths)
        for unit in range(stage.modules):
            # The last unit of all has one output, the finest branch.
            all_of_them = number < 4 or unit < stage.modules - 1
            outputs = len(stage.widths) if all_of_them else 1
            branches = exchange(branches, f"stage{number}.{unit}", stage, outputs)
        before = stage.widths
    return to.conv(branches[0], "final_layer", None, num_keypoints, 1, 1)


class _Shapes:
    """Operations on numbers of channels, which note the shapes of weights."""

    def __init__(self) -> None:
        self.noted: dict[str, tuple[int, ...]] = {}

    def conv(
        self, x: int, name: str, norm: str | None, width: int, kernel: int, _stride: int
    ) -> int:
        self.noted[f"{name}.weight"] = (width, x, kernel, kernel)
        if norm is None:
            self.noted[f"{name}.bias"] = (width,)
            return width
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.noted[f"{norm}.{part}"] = (width,)
        self.noted[f"{norm}.num_batches_tracked"] = ()
        return width

    def relu(self, x: int) -> int:
        return x

    def add(self, x: int, _y: int) -> int:
        return x

    def upsample(self, x: int, _factor: int) -> int:
        return x


def state_shapes(spec: HRNetSpec, num_keypoints: int) -> dict[str, tuple[int, ...]]:
    """The names of a network's weights and their shapes, in the order of the state dict."""
    shapes = _Shapes()
    forward(spec, num_keypoints, shapes, 3)
    return shapes.noted


def check_shapes(expected: Shapes, found: Shapes, error: str) -> None:
    """Raises UserError, whose message starts with `error`, where names or shapes differ."""
    wrong = [f"{key} is missing" for key in expected.keys() - found.keys()]
    wrong += [f"{key} is not of this network" for key in found.keys() - expected.keys()]
    wrong += [
        f"{key}: expected shape {expected[key]}, found {found[key]}"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{error}: {'; '.join(sorted(wrong)[:3])}{more}", code="weights-unsuitable")
