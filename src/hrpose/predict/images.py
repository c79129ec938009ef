"""The poses in many images: files are read and persons detected while the network is at work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.io import prefetch
from hrpose.poses import Poses
from hrpose.predict.inputs import Boxes, ImageInput


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An image, upright, with its boxes; and the poses in them."""

    source: ImageInput
    image: InputImage
    poses: Poses


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, or that has wrong boxes."""

    source: ImageInput
    error: UserError


def predict_images(
    estimator: PoseEstimator,
    images: Sequence[ImageInput],
    boxes: Mapping[ImageInput, Boxes] | None = None,
) -> Iterator[Prediction | Failure]:
    """Each of `images` once, those that can be read in their order.

    `boxes` take the place of the estimator's detector: for each image [x, y, w, h] in pixels and
    scores in [0, 1].
    """
    failures: list[Failure] = []

    def read(source: ImageInput) -> InputImage | Failure:
        """In a thread of its own, so that the network need not wait for files and detectors."""
        try:
            given = () if boxes is None else boxes[source]
            return replace(estimator.image(source.content(), *given), key=source)
        except UserError as error:
            text = str(error)
            if isinstance(source.place, str):  # bytes have no name of their own
                text = text.removeprefix("image: ")
            text = text if str(source) in text else f"{source}: {text}"
            return Failure(source, UserError(text, code=error.code))

    def readable() -> Iterator[InputImage]:
        for found in prefetch(read, images):
            if isinstance(found, Failure):
                failures.append(found)
            else:
                yield found

    for image, poses in estimator.stream(readable()):
        yield from failures
        failures.clear()
        yield Prediction(image.key, image, poses)
    yield from failures
