"""From pixels to meters: a known height or distance, or a camera calibrated with a printed board.

All of them hold in one plane. A scale is that of the plane in which the person moves, seen at right
angles. A calibrated camera takes out the distortion of the lens; a photo of the board in the plane
of the movement also takes out the angle at which the camera sees it, and one of the board on the
ground gives distances on the ground.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hrpose.errors import UserError
from hrpose.image import read_image
from hrpose.io import read_file, write_atomically
from hrpose.predict.inputs import Inputs
from hrpose.skeleton import Skeleton

Floats = NDArray[np.float64]

# Parts of a person's height, from Drillis and Contini (Body Segment Parameters, 1966), whose
# table Winter's book has: shank, thigh, and trunk from hip to shoulder. Persons differ in it.
_SHANK, _THIGH, _TRUNK = 0.246, 0.245, 0.288
HEIGHT_SIGMA = 0.04
# Points that a user reads off an image are that exact, in pixels.
_POINT_SIGMA = 1.0

# The board: 7 x 5 squares, of 35 mm on A4.
COLUMNS, ROWS = 7, 5
SQUARE = 0.035
_MARKER = 0.75  # of a square
_DPI = 300
_PAGE_MM = (297.0, 210.0)
# Views and corners of them that a calibration needs, and its largest error.
MIN_VIEWS, MIN_CORNERS, MAX_RMS = 4, 8, 3.0
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """`meters_per_pixel`, its relative standard deviation `sigma`, and where it is `from_`."""

    meters_per_pixel: float
    sigma: float
    from_: str

    @classmethod
    def of_points(cls, text: str, option: str = "--known") -> "Scale":
        """From "x,y,x,y=meters": two points in pixels, and their distance.

        Raises UserError for another text.
        """
        points, _, meters = text.partition("=")
        try:
            x, y, x2, y2 = (float(part) for part in points.split(","))
            distance, pixels = float(meters), float(np.hypot(x2 - x, y2 - y))
            if not (1e-6 <= distance <= 1e6 and 1 <= pixels <= 1e6):
                raise ValueError
        except ValueError as error:
            raise UserError(
                f"{option}: expected two points in pixels, 1 apart or more, and their distance in "
                f"meters, as 100,400,500,400=2.5, found '{text}'",
                code="option-invalid",
            ) from error
        sigma = float(np.sqrt(2) * _POINT_SIGMA / pixels)
        return cls(distance / pixels, sigma, f"{pixels:.1f} pixels are {distance:g} m")

    @classmethod
    def of_height(cls, meters: float, xy: Floats, skeleton: Skeleton, where: str) -> "Scale":
        """From a person's height: `xy` (t, k, 2) are the keypoints, NaN where missing.

        The lengths of shank, thigh and trunk are added up, so that the person need not stand
        straight. Raises UserError where the skeleton or the images do not have them.
        """
        names = skeleton.keypoints

        def at(*points: str) -> Floats:
            return np.asarray(np.mean([xy[:, names.index(point)] for point in points], axis=0))

        def between(a: Floats, b: Floats) -> Floats:
            return np.asarray(np.linalg.norm(a - b, axis=-1))

        parts = ("shoulder", "hip", "knee", "ankle")
        if not {f"{side}_{part}" for side in ("left", "right") for part in parts} <= set(names):
            raise UserError(
                f"{where}: --height: expected a skeleton with shoulders, hips, knees and ankles, "
                f"found '{skeleton.name}'; give --known instead",
                code="scale-missing",
            )
        legs = [
            between(at(f"{side}_hip"), at(f"{side}_knee"))
            + between(at(f"{side}_knee"), at(f"{side}_ankle"))
            for side in ("left", "right")
        ]
        trunk = between(at("left_hip", "right_hip"), at("left_shoulder", "right_shoulder"))
        sums = np.where(np.isnan(legs[0]), legs[1], legs[0])
        sums = np.where(np.isnan(legs[0] + legs[1]), sums, (legs[0] + legs[1]) / 2) + trunk
        sums = sums[np.isfinite(sums) & (sums > 0)]
        if not len(sums):
            raise UserError(
                f"{where}: --height: expected shoulders, hips, knees and ankles in an image, found "
                "none with all of them; give --known instead",
                code="scale-missing",
            )
        pixels = float(np.median(sums)) / (_SHANK + _THIGH + _TRUNK)
        return cls(meters / pixels, HEIGHT_SIGMA, f"{pixels:.0f} pixels are {meters:g} m")


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A calibrated camera.

    `matrix` (3, 3) and `distortion` (5,) are OpenCV's, for images of `image_wh` pixels; `rms` is
    the error of the calibration in pixels, over `views` photos. `plane` and `ground` (3, 3) map
    undistorted pixels to meters in the plane of the movement and on the ground; their axes are
    turned like those of the image.
    """

    image_wh: tuple[int, int]
    matrix: Floats
    distortion: Floats
    rms: float
    views: int
    plane: Floats | None = None
    ground: Floats | None = None

    def apply(
        self, xy: Floats, covariance: Floats | None, *, ground: bool = False
    ) -> tuple[Floats, Floats | None]:
        """Keypoints (t, k, 2) in pixels without distortion, or in meters where there is a `plane`.

        With `ground` in meters on the ground. Also maps the covariances (t, k, 2, 2).
        """
        homography = self.ground if ground else self.plane
        found = self._map(xy, homography)
        if covariance is None:
            return found, None
        step = 0.5
        columns = [
            (self._map(xy + shift, homography) - self._map(xy - shift, homography)) / (2 * step)
            for shift in step * np.eye(2)
        ]
        jacobian = np.stack(columns, axis=-1)
        return found, np.asarray(jacobian @ covariance @ jacobian.swapaxes(-1, -2))

    def _map(self, xy: Floats, homography: Floats | None) -> Floats:
        flat = np.nan_to_num(xy).reshape(-1, 1, 2)
        points = cv2.undistortPoints(flat, self.matrix, self.distortion, P=self.matrix)
        if homography is not None:
            points = cv2.perspectiveTransform(points, homography)
        return np.where(np.isnan(xy), np.nan, np.asarray(points, np.float64).reshape(xy.shape))

    def check_size(self, image_wh: tuple[int, int] | None, where: str) -> None:
        """Raises UserError where images have another size than those of the calibration."""
        if image_wh is not None and tuple(image_wh) != self.image_wh:
            raise UserError(
                f"{where}: expected images of {_size(self.image_wh)} as in the calibration of "
                f"--camera, found {_size(image_wh)}; calibrate with images of this size",
                code="camera-differs",
            )

    def save(self, path: Path) -> None:
        """Write it as JSON."""

        def plain(matrix: Floats | None) -> Any:
            return None if matrix is None else matrix.tolist()

        about = {
            "format": "hrpose-camera",
            "image_wh": list(self.image_wh),
            "matrix": plain(self.matrix),
            "distortion": plain(self.distortion),
            "rms": round(self.rms, 4),
            "views": self.views,
            "plane": plain(self.plane),
            "ground": plain(self.ground),
        }
        write_atomically(path, json.dumps(about, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Camera":
        """The inverse of `save`. Raises UserError for another file."""
        try:
            data = json.loads(read_file(path, _MAX_BYTES))
            if not isinstance(data, dict) or data.get("format") != "hrpose-camera":
                raise ValueError("another kind of JSON")
            width, height = (int(v) for v in data["image_wh"])
            return cls(
                (width, height),
                _matrix(data, "matrix", (3, 3)),
                _matrix(data, "distortion", (5,)),
                float(data["rms"]),
                int(data["views"]),
                *(
                    None if data.get(key) is None else _matrix(data, key, (3, 3))
                    for key in ("plane", "ground")
                ),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{path}: expected a camera that `hrpose measure --calibrate` wrote, found "
                f"{str(error)[:200] or type(error).__name__}",
                code="camera-invalid",
            ) from error


def _matrix(data: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> Floats:
    found = np.array(data[key], np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"{key} of the shape {found.shape}")
    return found


def _size(wh: tuple[int, int]) -> str:
    return f"{wh[0]}x{wh[1]} pixels"


def _board(square: float) -> cv2.aruco.CharucoBoard:
    words = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_50)
    return cv2.aruco.CharucoBoard((COLUMNS, ROWS), square, _MARKER * square, words)


def write_board(path: Path) -> None:
    """Write the board as a page of A4, a .png or .pdf with its size in millimeters.

    Raises UserError for another suffix.
    """
    if path.suffix.lower() not in (".png", ".pdf"):
        raise UserError(
            f"{path}: expected a name that ends with .png or .pdf", code="option-invalid"
        )
    page = [round(mm / 25.4 * _DPI) for mm in _PAGE_MM]
    side = round(SQUARE * 1000 / 25.4 * _DPI)
    drawn = _board(SQUARE).generateImage((COLUMNS * side, ROWS * side), marginSize=0)
    sheet = Image.new("L", (page[0], page[1]), 255)
    left, top = (page[0] - COLUMNS * side) // 2, (page[1] - ROWS * side) // 3
    sheet.paste(Image.fromarray(drawn), (left, top))
    text = (
        f"hrpose board: {COLUMNS} x {ROWS} squares of {1000 * SQUARE:g} mm at 100 %. Measure a "
        "printed square, give it to --square in meters, and glue the sheet to something flat."
    )
    ImageDraw.Draw(sheet).text((left, top + ROWS * side + 60), text, fill=0, font_size=48)
    data = io.BytesIO()
    if path.suffix.lower() == ".pdf":
        sheet.save(data, "PDF", resolution=_DPI)
    else:
        sheet.save(data, "PNG", dpi=(_DPI, _DPI))
    write_atomically(path, data.getvalue())


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The board in one image: its corners on the board in meters, and in pixels (c, 2)."""

    name: str
    image_wh: tuple[int, int]
    on_board: Floats
    in_image: Floats


def find_board(image: NDArray[np.uint8], name: str, square: float = SQUARE) -> View | None:
    """The board in an RGB image (h, w, 3) uint8; None where too few corners are seen."""
    board = _board(square)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(gray)
    if ids is None or len(ids) < MIN_CORNERS:
        return None
    on_board, in_image = board.matchImagePoints(corners, ids)  # type: ignore[call-overload]
    return View(
        name,
        (image.shape[1], image.shape[0]),
        np.asarray(on_board, np.float64).reshape(-1, 3)[:, :2],
        np.asarray(in_image, np.float64).reshape(-1, 2),
    )


def views_in(inputs: Inputs, square: float = SQUARE) -> tuple[list[View], int]:
    """The views of the board in images and clips, and the number of images without one.

    Of a clip, about thirty frames are taken. Raises UserError where an input cannot be read.
    """
    if inputs.problems:
        raise inputs.problems[0]
    seen = [find_board(read_image(each.content()), each.name, square) for each in inputs.images]
    for clip in inputs.clips:
        from hrpose.video import Clip

        with Clip.open(clip.source) as opened:
            step = max(1, (opened.frame_count or 300) // 30)
            seen += [
                find_board(frame.image, f"{clip}: frame {frame.index}", square)
                for frame in opened
                if frame.index % step == 0
            ]
    views = [view for view in seen if view is not None]
    return views, len(seen) - len(views)


def calibrate(views: Sequence[View]) -> Camera:
    """The camera that saw these views of the board.

    Raises UserError for too few views, views of different sizes, and an error above `MAX_RMS`.
    """
    if len(views) < MIN_VIEWS:
        raise UserError(
            f"--calibrate: expected the board in at least {MIN_VIEWS} images, from different "
            f"sides, found it in {len(views)}",
            code="board-missing",
        )
    size = views[0].image_wh
    for view in views:
        if view.image_wh != size:
            raise UserError(
                f"{view.name}: expected images of {_size(size)} as {views[0].name}, found "
                f"{_size(view.image_wh)}",
                code="camera-differs",
            )
    objects = [np.c_[view.on_board, np.zeros(len(view.on_board))] for view in views]
    rms, matrix, distortion, _, _ = cv2.calibrateCamera(
        [points.astype(np.float32) for points in objects],
        [view.in_image.astype(np.float32) for view in views],
        size,
        None,  # type: ignore[arg-type, unused-ignore]
        None,  # type: ignore[arg-type, unused-ignore]
    )
    if not rms <= MAX_RMS:
        raise UserError(
            f"--calibrate: expected an error of at most {MAX_RMS:g} pixels, found {rms:.1f}; glue "
            "the board to something flat, and leave out blurred images",
            code="board-missing",
        )
    camera = np.asarray(matrix, np.float64)
    return Camera(size, camera, np.asarray(distortion, np.float64).ravel()[:5], rms, len(views))


def plane_of(camera: Camera, view: View) -> Floats:
    """(3, 3): undistorted pixels of the camera to meters in the plane of the board.

    Its axes are turned like those of the image at the board, so that up is up. Raises UserError for
    an image of another size.
    """
    camera.check_size(view.image_wh, view.name)
    flat = view.in_image.reshape(-1, 1, 2)
    points = cv2.undistortPoints(flat, camera.matrix, camera.distortion, P=camera.matrix)
    points = np.asarray(points, np.float64).reshape(-1, 2)
    homography, _ = cv2.findHomography(points, view.on_board)
    center = points.mean(axis=0)
    around = np.stack([center, *(center + np.eye(2)), center])[:, None]
    mapped = cv2.perspectiveTransform(around, homography)[:, 0]
    u, _, vt = np.linalg.svd((mapped[1:3] - mapped[0]).T)
    turned = np.eye(3)
    turned[:2, :2] = (u @ vt).T
    return np.asarray(turned @ homography, np.float64)


def with_planes(
    camera: Camera, plane: Path | None, ground: Path | None, square: float = SQUARE
) -> Camera:
    """The camera with the planes in which the board is in two images, None for none.

    Raises UserError where an image cannot be read, or shows no board.
    """
    found: list[Floats | None] = []
    for option, path in (("plane", plane), ("ground", ground)):
        if path is None:
            found.append(None)
            continue
        view = find_board(read_image(path), str(path), square)
        if view is None:
            raise UserError(
                f"{path}: --{option}: expected the board, whole and sharp, found none",
                code="board-missing",
            )
        found.append(plane_of(camera, view))
    return replace(camera, plane=found[0], ground=found[1])
