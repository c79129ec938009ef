"""From an image's bytes to the answer: decode, find people, cut them out, wait for the network."""

import asyncio
import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hrpose.detection.detector import Boxes, Detector, FullImage
from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator, place
from hrpose.geometry import Crop
from hrpose.image import ImageError, encode, image_size
from hrpose.poses import Poses
from hrpose.serve.batcher import Batcher, Found, OutOfMemory, QueueFull
from hrpose.serve.middleware import Limits, Refusal, busy
from hrpose.serve.schemas import Heatmaps, Keypoint, Options, Person, PosesAnswer
from hrpose.serve.upload import parse_boxes

T = TypeVar("T")

# Decoding images in more threads than this takes the network's cores.
DECODERS = 2


# An image whose people are cut out is not kept: it may be large, and many wait.
NOTHING = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """The people cut out of an image of `size` (w, h): one crop and one image for each."""

    size: tuple[int, int]
    image: InputImage
    boxes_from: str
    crops: list[Crop]
    images: list[NDArray[np.uint8]]


class _OneAtATime:
    """A detector that looks at one image at a time, for it uses all cores; the surest boxes."""

    def __init__(self, detector: Detector, most: int) -> None:
        self.name = detector.name
        self.input_wh: tuple[int, int] | None = getattr(detector, "input_wh", None)
        self._detector = detector
        self._most = most
        self._turn = threading.Lock()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        with self._turn:
            return self._detector(image).best(self._most)


class Service:
    """Answers for images. A context manager, around the batcher's life."""

    def __init__(self, batcher: Batcher, detector: Detector, limits: Limits) -> None:
        self.batcher = batcher
        self.metadata = batcher.metadata
        self.detector = detector
        self.limits = limits
        # Reads, finds and cuts out people; the batcher runs the network.
        if not isinstance(detector, FullImage):
            detector = _OneAtATime(detector, limits.max_boxes)
        self._estimator = PoseEstimator(batcher.session, detector=detector)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoders.shutdown(wait=True, cancel_futures=True)

    async def poses(self, data: bytes, options: Options) -> PosesAnswer:
        """The people in the image of a file. Raises a Refusal that says what is wrong."""
        boxes = parse_boxes(options.boxes, self.limits)
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                cut = await self._in_decoder(lambda: self._cut(data, boxes))
                if not cut.crops:
                    return self._answer(cut, Poses.empty(self.metadata.skeleton), None, options)
                job = self.batcher.submit(
                    np.stack(cut.images), flip_test=options.flip_test, heatmaps=options.heatmaps
                )
                found = await asyncio.wrap_future(job)
                poses = place(self.metadata, cut.image, cut.crops, found.points, found.scores)
                if options.heatmaps:
                    return await self._in_decoder(lambda: self._answer(cut, poses, found, options))
                return self._answer(cut, poses, found, options)
        except (QueueFull, OutOfMemory, TimeoutError, MemoryError):
            raise busy() from None

    async def _in_decoder(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    def _cut(self, data: bytes, boxes: list[tuple[float, float, float, float]] | None) -> _Cut:
        try:
            size = image_size(data, max_pixels=self.limits.max_pixels)
            image = self._estimator.image(data, boxes, size=size)
        except ImageError as error:
            raise Refusal(422, "bad_image", str(error)) from error
        except UserError as error:
            raise Refusal(422, "bad_boxes", str(error)) from error
        crops = [self.metadata.crop(box) for box in image.boxes]
        images = [image.cut(crop) for crop in crops]
        boxes_from = self.detector.name if boxes is None else "request"
        return _Cut(size, replace(image, image=NOTHING), boxes_from, crops, images)

    def _answer(
        self, cut: _Cut, poses: Poses, found: Found | None, options: Options
    ) -> PosesAnswer:
        names = self.metadata.skeleton.keypoints
        persons = []
        boxes = cut.image.boxes.tolist()
        for person, keypoints in enumerate(poses.keypoints.tolist()):
            maps = None
            if found is not None and found.heatmaps is not None:
                maps = self._heatmaps(found.heatmaps[person], cut.crops[person])
            entries = [
                Keypoint(
                    name=name,
                    x=round(x, 2),
                    y=round(y, 2),
                    score=round(s, 4),
                    present=s >= options.threshold,
                )
                for name, (x, y, s) in zip(names, keypoints, strict=True)
            ]
            score = round(float(poses.scores[person]), 4)
            persons.append(Person(box=boxes[person], score=score, keypoints=entries, heatmaps=maps))
        width, height = cut.size
        return PosesAnswer(
            model=self.metadata.title,
            width=width,
            height=height,
            boxes_from=cut.boxes_from,
            threshold=options.threshold,
            persons=persons,
        )

    def _heatmaps(self, heatmaps: NDArray[np.float32], crop: Crop) -> Heatmaps:
        k, height, width = heatmaps.shape
        gray = np.rint(np.clip(heatmaps, 0, 1) * 255).astype(np.uint8)
        png = encode(gray.reshape(k * height, width), ".png")
        # As the codec does: UDP counts lengths between the centers of pixels.
        less = 1 if self.metadata.codec.unit_lengths else 0
        wide, high = crop.input_wh
        steps = ((wide - less) / (width - less), (high - less) / (height - less), 1)
        matrix = crop.inverse_matrix * steps
        return Heatmaps(
            png=base64.b64encode(png).decode(),
            width=width,
            height=height,
            to_image=matrix.tolist(),
        )
