"""The way through the networks of the table, for any kind of operations, and the shapes of weights.

`hrpose.models.onnx_graph` writes ONNX by it, and `hrpose.models.build` computes Lite-HRNets;
`hrpose.models.hrnet` is the way through an HRNet as PyTorch modules.
"""

from collections.abc import Sequence

from hrpose.models.networks import (
    HRNetSpec,
    Interpolation,
    LiteHRNetSpec,
    NetworkSpec,
    Operations,
    StageSpec,
    T,
)


def forward(spec: NetworkSpec, num_keypoints: int, to: Operations[T], x: T) -> T:
    """From a normalized image of 3 channels to one heatmap for each keypoint.

    The names of weights and the order in which they are read are those of the official state dict,
    and of the parts that the official code has not, MMPose's.
    """
    if isinstance(spec, LiteHRNetSpec):
        return _lite_hrnet(spec, num_keypoints, to, x)
    return _hrnet(spec, num_keypoints, to, x)


def state_shapes(spec: NetworkSpec, num_keypoints: int) -> dict[str, tuple[int, ...]]:
    """The names of a network's weights and their shapes, in the order of the state dict."""
    shapes = ChannelCounts()
    forward(spec, num_keypoints, shapes, 3)
    return shapes.noted


def _hrnet(spec: HRNetSpec, num_keypoints: int, to: Operations[T], x: T) -> T:
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
            return to.upsample(x, 2 ** (source - target), spec.interpolation)
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
            last_of_all = number == 4 and unit == stage.modules - 1
            outputs = spec.outputs if last_of_all else len(stage.widths)
            branches = exchange(branches, f"stage{number}.{unit}", stage, outputs)
        before = stage.widths
    x = branches[0]
    if spec.version == 2:
        rest = [to.upsample(t, 2**i, spec.interpolation) for i, t in enumerate(branches[1:], 1)]
        x, width = to.concat([x, *rest]), sum(before)
        x = to.relu(to.conv(x, "conv_layers.0", "conv_layers.1", width, 1, 1, bias=True))
    return to.conv(x, "final_layer", None, num_keypoints, 1, 1, bias=True)


def _lite_hrnet(spec: LiteHRNetSpec, num_keypoints: int, to: Operations[T], x: T) -> T:
    """An HRNet of shuffle blocks in which weights of channels, computed from all resolutions
    together, replace the costly 1x1 convolutions.
    """

    def layer(
        x: T, at: str, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> T:  # A convolution and its BatchNorm, as MMCV names them.
        return to.conv(x, f"{at}.conv", f"{at}.bn", width, kernel, stride, groups=groups)

    def separable(
        x: T, at: str, before: int, after: int, stride: int, relu: bool = True
    ) -> T:  # A 3x3 convolution of each channel, then a 1x1 convolution of all.
        x = to.conv(x, f"{at}.0", f"{at}.1", before, 3, stride, groups=before)
        x = to.conv(x, f"{at}.2", f"{at}.3", after, 1, 1)
        return to.relu(x) if relu else x

    def descend(x: T, at: str, before: int, after: int, steps: int, relu: bool) -> T:
        for step in range(steps):
            last = step == steps - 1
            width = after if last else before
            x = separable(x, f"{at}.{step}", before, width, 2, relu or not last)
        return x

    def stem(x: T) -> T:
        half = spec.stem_width // 2
        x = to.relu(layer(x, "stem.conv1", spec.stem_width, 3, 2))
        one, other = to.split(x, (half, half))
        one = layer(one, "stem.branch1.0", half, 3, 2, groups=half)
        one = to.relu(layer(one, "stem.branch1.1", half))
        other = to.relu(layer(other, "stem.expand_conv", spec.stem_width))
        other = layer(other, "stem.depthwise_conv", spec.stem_width, 3, 2, groups=spec.stem_width)
        other = to.relu(layer(other, "stem.linear_conv", half))
        return to.shuffle(to.concat((one, other)))

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
                paths.append(separable(x[branch], path, before[branch], width, 1))
        return paths

    def across_resolutions(x: list[T], at: str, widths: Sequence[int]) -> list[T]:
        """Every channel times a weight that depends on all channels of all branches, in each cell
        of the coarsest branch.
        """
        factors = [2 ** (len(x) - 1 - branch) for branch in range(len(x))]
        pooled = [to.pool(t, f) if f > 1 else t for t, f in zip(x, factors, strict=True)]
        every = sum(widths)
        weights = to.relu(layer(to.concat(pooled), f"{at}.conv1", every // spec.reduction))
        weights = to.sigmoid(layer(weights, f"{at}.conv2", every))
        return [
            to.multiply(t, to.upsample(part, factor, "nearest") if factor > 1 else part)
            for t, part, factor in zip(x, to.split(weights, widths), factors, strict=True)
        ]

    def within_one(x: T, at: str, width: int) -> T:
        """Every channel times one weight that depends on all channels of this branch."""
        narrow = width // spec.spatial_reduction
        weights = to.conv(to.pool(x, None), f"{at}.conv1.conv", None, narrow, 1, 1, bias=True)
        weights = to.conv(to.relu(weights), f"{at}.conv2.conv", None, width, 1, 1, bias=True)
        return to.multiply(x, to.sigmoid(weights))

    def block(x: list[T], at: str, widths: Sequence[int]) -> list[T]:
        halves = [width // 2 for width in widths]
        pairs = [to.split(t, (half, half)) for t, half in zip(x, halves, strict=True)]
        others = across_resolutions(
            [other for _, other in pairs], f"{at}.cross_resolution_weighting", halves
        )
        others = [
            layer(t, f"{at}.depthwise_convs.{i}", half, 3, groups=half)
            for i, (t, half) in enumerate(zip(others, halves, strict=True))
        ]
        others = [
            within_one(t, f"{at}.spatial_weighting.{i}", half)
            for i, (t, half) in enumerate(zip(others, halves, strict=True))
        ]
        return [
            to.shuffle(to.concat((one, other)))
            for (one, _), other in zip(pairs, others, strict=True)
        ]

    def path(x: T, at: str, widths: Sequence[int], source: int, target: int) -> T:
        if source == target:
            return x
        if source > target:
            x = to.conv(x, f"{at}.0", f"{at}.1", widths[target], 1, 1)
            return to.upsample(x, 2 ** (source - target), "nearest")
        return descend(x, at, widths[source], widths[target], target - source, relu=False)

    def exchange(x: list[T], at: str, stage: StageSpec) -> list[T]:
        for number in range(stage.blocks):
            x = block(x, f"{at}.layers.{number}", stage.widths)
        sums: list[T] = []
        for target in range(len(x)):
            fuse = f"{at}.fuse_layers.{target}"
            first, *rest = (
                path(t, f"{fuse}.{source}", stage.widths, source, target)
                for source, t in enumerate(x)
            )
            # The published weights were trained by code that adds the finest branch twice, and
            # overwrites it: the sum for the finest is what the others get from it.
            total = to.add(first, first)
            for term in rest:
                total = to.add(total, term)
            if target == 0:
                x = [total, *x[1:]]
            sums.append(to.relu(total))
        return sums

    def ascend(x: list[T], widths: Sequence[int]) -> T:
        """From the coarsest branch to the finest, each added to the next."""
        y: T | None = None
        for number, branch in enumerate(reversed(range(len(x)))):
            at, width = f"head_layer.projects.{number}", widths[branch]
            y = (
                x[branch]
                if y is None
                else to.add(x[branch], to.upsample(y, 2, "bilinear, corners aligned"))
            )
            y = layer(y, f"{at}.depthwise_conv", width, 3, groups=width)
            y = to.relu(layer(y, f"{at}.pointwise_conv", widths[max(branch - 1, 0)]))
        assert y is not None
        return y

    branches = [stem(x)]
    before: Sequence[int] = (spec.stem_width,)
    for number, stage in enumerate(spec.stages):
        branches = transition(branches, f"transition{number}", before, stage.widths)
        for unit in range(stage.modules):
            branches = exchange(branches, f"stage{number}.{unit}", stage)
        before = stage.widths
    return to.conv(ascend(branches, before), "final_layer", None, num_keypoints, 1, 1, bias=True)


class ChannelCounts:
    """Operations on numbers of channels, which note the shapes of weights, in their order."""

    def __init__(self) -> None:
        self.noted: dict[str, tuple[int, ...]] = {}

    def conv(
        self,
        x: int,
        name: str,
        norm: str | None,
        width: int,
        kernel: int,
        stride: int,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> int:
        self.noted[f"{name}.weight"] = (width, x // groups, kernel, kernel)
        if bias:
            self.noted[f"{name}.bias"] = (width,)
        if norm is not None:
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.noted[f"{norm}.{part}"] = (width,)
            self.noted[f"{norm}.num_batches_tracked"] = ()
        return width

    def relu(self, x: int) -> int:
        return x

    def sigmoid(self, x: int) -> int:
        return x

    def add(self, x: int, _y: int) -> int:
        return x

    def multiply(self, x: int, _y: int) -> int:
        return x

    def upsample(self, x: int, _factor: int, _how: Interpolation) -> int:
        return x

    def pool(self, x: int, _factor: int | None) -> int:
        return x

    def concat(self, parts: Sequence[int]) -> int:
        return sum(parts)

    def split(self, _x: int, widths: Sequence[int]) -> list[int]:
        return list(widths)

    def shuffle(self, x: int) -> int:
        return x
