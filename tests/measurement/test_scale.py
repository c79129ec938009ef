"""Meters: a person's height, two points, and a camera calibrated with the printed board."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.measurement.scale import (
    COLUMNS,
    ROWS,
    SQUARE,
    Camera,
    Scale,
    calibrate,
    find_board,
    with_planes,
    write_board,
)
from hrpose.skeletons import COCO_17, HAND_21
from refusals import check_refusal, refused

SIZE_WH = (640, 480)
MATRIX = np.array([[520.0, 0, 320], [0, 520, 240], [0, 0, 1]])
DISTORTION = np.array([-0.22, 0.06, 0.001, -0.001, 0.0])
# Where the board is: turned by radians, and its corner in meters from the camera.
PLACES = [
    ((0.1, 0.5, 0.05), (-0.12, -0.1, 0.34)),
    ((-0.5, 0.1, 0.0), (-0.13, -0.08, 0.36)),
    ((0.4, -0.4, 0.1), (-0.1, -0.09, 0.4)),
    ((0.0, 0.0, 0.3), (-0.1, -0.12, 0.33)),
    ((-0.3, -0.5, -0.1), (-0.15, -0.05, 0.38)),
    ((0.5, 0.3, -0.2), (-0.08, -0.06, 0.36)),
]


@cache
def printed() -> NDArray[np.uint8]:
    """The board as it is printed, with 60 pixels for a square, cut from the page."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_board(Path(folder) / "board.png")
        with Image.open(Path(folder) / "board.png") as page:
            dpi, sheet = page.info["dpi"][0], np.asarray(page.convert("L"))
    assert dpi == pytest.approx(300, abs=0.1)
    side = SQUARE / 0.0254 * dpi
    rows, columns = (
        np.flatnonzero((sheet < 99).any(axis=1)),
        np.flatnonzero((sheet < 99).any(axis=0)),
    )
    top, left = rows[0], columns[0]
    board = sheet[top : top + round(ROWS * side), left : left + round(COLUMNS * side)]
    return np.asarray(cv2.resize(board, (COLUMNS * 60, ROWS * 60), interpolation=cv2.INTER_AREA))


@cache
def photo(turn: tuple[float, ...], corner: tuple[float, ...]) -> NDArray[np.uint8]:
    """What the camera sees of the board."""
    width, height = SIZE_WH
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    flat = cv2.undistortPoints(pixels.reshape(-1, 1, 2).astype(np.float64), MATRIX, DISTORTION)
    rotation = cv2.Rodrigues(np.array(turn))[0]
    rays = np.c_[flat.reshape(-1, 2), np.ones(len(flat))] @ rotation
    eye = -rotation.T @ np.array(corner)
    points = eye[:2] - (eye[2] / rays[:, 2])[:, None] * rays[:, :2]
    at = (points / SQUARE * 60 - 0.5).astype(np.float32).reshape(height, width, 2)
    seen = cv2.remap(printed(), at[..., 0], at[..., 1], cv2.INTER_AREA, borderValue=255)
    return np.asarray(cv2.cvtColor(seen, cv2.COLOR_GRAY2RGB), np.uint8)


def project(points: Sequence[Sequence[float]], place: int) -> NDArray[np.float64]:
    """(1, p, 2): where points on the board, in meters, are in the photo."""
    turn, corner = PLACES[place]
    found = cv2.projectPoints(np.array(points, np.float64), np.array(turn), np.array(corner),
                              MATRIX, DISTORTION)[0]  # fmt: skip
    return np.asarray(found, np.float64).reshape(1, -1, 2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("board")
    paths = []
    for number, place in enumerate(PLACES):
        paths.append(folder / f"{number}.png")
        Image.fromarray(photo(*place)).save(paths[-1])
    return paths


def test_the_command_calibrates_and_measures_in_the_plane(
    tmp_path: Path, photos: list[Path]
) -> None:
    target = tmp_path / "camera.json"
    done = CliRunner().invoke(app, [
        "measure", *map(str, photos), "--calibrate", str(target), "--plane", str(photos[0]),
        "--ground", str(photos[2]),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    camera = Camera.read(target)
    assert camera.rms < 0.5
    assert camera.matrix[0, 0] == pytest.approx(520, rel=0.02)
    assert camera.distortion[0] == pytest.approx(-0.22, abs=0.03)
    # A triangle on the board, seen at an angle through the lens, has its lengths in meters.
    corners = [(0.02, 0.02, 0), (0.22, 0.02, 0), (0.22, 0.12, 0)]
    covariance = np.tile(np.eye(2), (1, 3, 1, 1))
    for place, ground in ((0, False), (2, True)):
        pixels = project(corners, place)
        found, spread = camera.apply(pixels, covariance, ground=ground)
        sides = np.linalg.norm(np.diff(found[0], axis=0), axis=1)
        assert sides == pytest.approx([0.2, 0.1], rel=0.01)
        # A pixel is about as many meters as the distance between two points says.
        around = camera.apply(pixels + np.array([1.0, 0.0]), None, ground=ground)[0]
        assert spread is not None
        moved = np.linalg.norm(around - found, axis=-1)
        assert (moved <= 1.05 * np.sqrt(np.linalg.eigvalsh(spread)[..., -1])).all()
        # Up in the image is up in the plane.
        higher = camera.apply(pixels - np.array([0.0, 10.0]), None, ground=ground)[0]
        assert (higher[..., 1] < found[..., 1]).all()


def test_pixels_without_a_plane_are_those_of_a_lens_without_distortion() -> None:
    views = [view for place in PLACES if (view := find_board(photo(*place), "")) is not None]
    camera = calibrate(views)
    line = project([(x, 0.02, 0) for x in np.linspace(0, 0.24, 7)], 0)
    straight = camera.apply(line, None)[0][0]

    def bend(points: NDArray[np.float64]) -> float:
        """How far points are from the line through the first and the last."""
        along = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
        return float(np.abs((points - points[0]) @ (-along[1], along[0])).max())

    assert bend(line[0]) > 10 * bend(straight)
    gone = np.full((1, 2, 2), np.nan)
    assert np.isnan(camera.apply(gone, None)[0]).all()


def test_mistakes_of_calibrations(tmp_path: Path, photos: list[Path]) -> None:
    views = [find_board(photo(*place), str(at)) for at, place in enumerate(PLACES)]
    known = [view for view in views if view is not None]
    with refused("board-missing", "at least 4", "found it in 2"):
        calibrate(known[:2])
    assert find_board(np.full((480, 640, 3), 200, np.uint8), "") is None
    empty = tmp_path / "empty.png"
    Image.new("RGB", SIZE_WH, "gray").save(empty)
    with refused("board-missing", str(empty), "--plane"):
        with_planes(calibrate(known), empty, None)
    small = find_board(np.asarray(cv2.resize(photo(*PLACES[0]), (600, 450)), np.uint8), "small")
    assert small is not None
    with refused("camera-differs", "small", "640x480", "600x450"):
        calibrate([*known, small])
    done = CliRunner().invoke(app, ["measure", str(empty), "--calibrate", "c.json"])
    check_refusal(done, "board-missing", "found it in 0")
    with refused("option-invalid", "board.gif"):
        write_board(tmp_path / "board.gif")


def test_the_board_is_a_page(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["measure", "--print-board", str(tmp_path / "board.pdf")])
    assert done.exit_code == 0, done.output
    content = (tmp_path / "board.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/MediaBox [ 0 0 841.92 595.2 ]" in content  # A4 in points


def test_a_height_is_that_of_the_bones() -> None:
    """A person of 300 pixels with the proportions of the table, sitting or standing."""
    xy = np.full((3, 17, 2), np.nan)
    for side in ("left", "right"):
        for name, y in (("shoulder", 0.182), ("hip", 0.47), ("knee", 0.715), ("ankle", 0.961)):
            xy[:, COCO_17.keypoints.index(f"{side}_{name}")] = 50, 300 * y
    knees = [COCO_17.keypoints.index(f"{side}_knee") for side in ("left", "right")]
    ankles = [COCO_17.keypoints.index(f"{side}_ankle") for side in ("left", "right")]
    xy[1, ankles] = xy[1, knees] + (300 * 0.246, 0)
    xy[2, 11] = np.nan  # a hip is missing: this image does not count
    scale = Scale.of_height(1.8, xy, COCO_17, "a.jpg")
    assert scale.meters_per_pixel == pytest.approx(1.8 / 300)
    with refused("scale-missing", "a.jpg"):
        Scale.of_height(1.8, xy[2:], COCO_17, "a.jpg")
    with refused("scale-missing", "hand-21"):
        Scale.of_height(1.8, np.zeros((1, 21, 2)), HAND_21, "a.jpg")


def test_two_points_are_a_scale() -> None:
    scale = Scale.of_points("0,0,300,400=2.5")
    assert scale.meters_per_pixel == 0.005
    assert scale.sigma == pytest.approx(2**0.5 / 500)
