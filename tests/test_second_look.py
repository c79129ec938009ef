"""A second look finds the keypoints of hands that are known, and merges them into the bodies.

No weights of hands can be downloaded or trained here: the bodies and hands are drawn as discs, one
color for each keypoint, and the networks find these colors. What comes before and after a network
is what it would be with published weights: crops, maps, merging.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import hrpose
from hrpose.cli.main import app
from hrpose.covariance import FEATURES, RADIUS, CovarianceFit, PresenceFit
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.poses import Poses
from hrpose.second_look import TwoLookEstimator, arms_of, hand_crops
from hrpose.skeleton import Skeleton
from hrpose.skeletons import (
    AP_10K,
    COCO_17,
    COCO_HANDS_59,
    HALPE_26,
    HALPE_HANDS_68,
    HAND_21,
    INTERHAND_21,
    RHD_21,
    WHOLEBODY_133,
)
from refusals import refused
from tiny_weights import marker_colors, write_marker_weights, write_tiny_weights
from whole_bodies import hand, whole_body

BODY_COLORS, HAND_COLORS = np.split(marker_colors(38), [17])
# A person 800 px high, arms away from the body, in an image of 900 x 900.
BODY = np.array([
    (450, 70), (465, 55), (435, 55), (485, 65), (415, 65), (530, 180), (370, 180), (620, 300),
    (280, 300), (690, 400), (190, 370), (510, 480), (390, 480), (520, 660), (380, 660), (525, 840),
    (375, 840),
], np.float64)  # fmt: skip
BOX = [150, 20, 620, 850]


def bodies(body: NDArray[np.float64] = BODY) -> Poses:
    keypoints = np.concatenate([body, np.ones((17, 1))], axis=1)[None].astype(np.float32)
    return Poses(keypoints, np.array([BOX], np.float32), np.ones(1, np.float32), COCO_17)


def drawn(found: Poses) -> NDArray[np.uint8]:
    """The keypoints of the body and of the hands as discs on black, the hands' over the body's."""
    image = np.zeros((900, 900, 3), np.uint8)
    for points, colors, radius in (
        (found.xy[0, :17], BODY_COLORS, 14),
        (found.xy[0, 91:112], HAND_COLORS, 3),
        (found.xy[0, 112:], HAND_COLORS, 3),
    ):
        for (x, y), color in zip(points.tolist(), colors.tolist(), strict=True):
            cv2.circle(image, (round(x), round(y)), radius, color, -1)
    return image


def colors_of(skeleton: Skeleton) -> NDArray[np.uint8]:
    """The colors of a hand's keypoints in its order."""
    return HAND_COLORS[[HAND_21.keypoints.index(name) for name in skeleton.keypoints]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of the body, of hands in three orders, and of a body that has feet and more."""
    folder = tmp_path_factory.mktemp("weights")
    body = Metadata("markers", (192, 256), COCO_17, name="body")
    written = {"body": write_marker_weights(folder / "body.onnx", body, BODY_COLORS)}
    for skeleton in (HAND_21, RHD_21, INTERHAND_21):
        metadata = Metadata("markers", (256, 256), skeleton, name=skeleton.name)
        path = folder / f"{skeleton.name}.onnx"
        written[skeleton.name] = write_marker_weights(path, metadata, colors_of(skeleton))
    return written


@pytest.mark.parametrize("order", ["hand-21", "rhd-21", "interhand-21"])
def test_known_hands_are_found(weights: dict[str, Path], order: str) -> None:
    truth = whole_body(bodies())
    estimator = hrpose.load(weights["body"], hands=weights[order], detector="full-image")
    found = estimator(drawn(truth), boxes=[BOX])
    assert found.skeleton == COCO_HANDS_59
    assert estimator.skeleton == COCO_HANDS_59
    assert f"(body, hands: {order}, 192x256" in repr(estimator)
    errors = np.linalg.norm(found.xy[0, 17:] - truth.xy[0, 91:], axis=1)
    assert errors.max() < 1.2
    assert found.conf[0, 17:].min() > 0.4
    # Boxes, scores and the body's keypoints are those of one look.
    one = hrpose.load(weights["body"], detector="full-image", exact=True)(drawn(truth), boxes=[BOX])
    np.testing.assert_array_equal(found.keypoints[:, :17], one.keypoints)
    np.testing.assert_array_equal(found.scores, one.scores)
    np.testing.assert_array_equal(found.boxes, one.boxes)


def test_the_second_crop_of_a_hand_is_tight(weights: dict[str, Path]) -> None:
    truth = whole_body(bodies())
    estimator = hrpose.load(
        weights["body"],
        hands=weights["hand-21"],
        detector="full-image",
        flip_test=True,
        batch_size=3,
    )
    assert isinstance(estimator, TwoLookEstimator)
    assert (estimator.hands.flip_test, estimator.hands.batch_size) == (True, 3)
    estimator.flip_test = False  # colors have no sides
    found = estimator(drawn(truth), boxes=[BOX])
    errors = np.linalg.norm(found.xy[0, 17:] - truth.xy[0, 91:], axis=1)
    estimator.hands.refine = False
    found = estimator(drawn(truth), boxes=[BOX])
    first = np.linalg.norm(found.xy[0, 17:] - truth.xy[0, 91:], axis=1)
    assert errors.max() < 1.4 < first.max()


def test_several_images_share_batches(weights: dict[str, Path]) -> None:
    truths = [whole_body(bodies(BODY + shift)) for shift in ((0, 0), (-15, 30))]
    nobody = np.zeros((900, 900, 3), np.uint8)
    estimator = hrpose.load(weights["body"], hands=weights["hand-21"], batch_size=3)
    estimator.detector = hrpose.load(weights["body"], detector="full-image").detector
    images = [drawn(truths[0]), nobody, drawn(truths[1])]
    found = list(estimator(images, stream=True))
    assert [len(poses) for poses in found] == [1, 1, 1]
    for poses, truth in zip(found[::2], truths, strict=True):
        assert np.linalg.norm(poses.xy[0, 17:] - truth.xy[0, 91:], axis=1).max() < 2
    # Nothing was sure there, so nothing was looked at.
    assert not found[1].conf[0, 17:].any()


def test_hands_of_unsure_wrists_stay_at_the_wrist(weights: dict[str, Path]) -> None:
    truth = whole_body(bodies())
    image = drawn(truth)
    cv2.circle(image, (690, 400), 15, (0, 0, 0), -1)  # the left wrist
    estimator = hrpose.load(weights["body"], hands=weights["hand-21"], detector="full-image")
    found = estimator(image, boxes=[BOX])
    left, right = found.keypoints[0, 17:38], found.keypoints[0, 38:]
    assert not left[:, 2].any()
    np.testing.assert_array_equal(left[:, :2], np.tile(found.xy[0, 9], (21, 1)))
    assert np.linalg.norm(right[:, :2] - truth.xy[0, 112:], axis=1).max() < 2


def test_of_a_whole_body_the_surer_look_is_kept(tmp_path: Path, weights: dict[str, Path]) -> None:
    truth = whole_body(bodies())
    colors = np.concatenate([BODY_COLORS, np.zeros((74, 3), np.uint8), HAND_COLORS, HAND_COLORS])
    colors[17:91] = (7, 77, 177)  # no disc has it
    metadata = Metadata("markers", (192, 256), WHOLEBODY_133, name="whole")
    whole = write_marker_weights(tmp_path / "whole.onnx", metadata, colors)
    one = hrpose.load(whole, detector="full-image")(drawn(truth), boxes=[BOX])
    two = hrpose.load(whole, hands=weights["hand-21"], detector="full-image")
    found = two(drawn(truth), boxes=[BOX])
    assert found.skeleton == WHOLEBODY_133
    np.testing.assert_array_equal(found.keypoints[:, :91], one.keypoints[:, :91])
    # In the crop of the person both hands have the same colors, and a disc is less than a pixel.
    errors = [np.linalg.norm(p.xy[0, 91:] - truth.xy[0, 91:], axis=1) for p in (one, found)]
    assert errors[1].max() < 2 < errors[0].max()
    # Colors that are nowhere: the second look is less sure, and the first one stays.
    blind = write_marker_weights(
        tmp_path / "blind.onnx",
        Metadata("markers", (256, 256), HAND_21),
        np.full((21, 3), 99, "u1"),
    )
    kept = hrpose.load(whole, hands=blind, detector="full-image")(drawn(truth), boxes=[BOX])
    np.testing.assert_array_equal(kept.keypoints, one.keypoints)


def fit(k: int) -> dict[str, Any]:
    """What weights say of the uncertainty and the presence of k keypoints, the same for all."""
    zeros = (0.0,) * FEATURES
    return {
        "covariance": CovarianceFit((0.5,), (1.0,), 1.0, (1.0,) * k, (0.95,), ((RADIUS,) * k,)),
        "presence": PresenceFit(zeros, (0.0,) * k, zeros, (1.0,) * k),
    }


def test_halpe_with_covariances_and_presence(tmp_path: Path) -> None:
    truth, image = whole_body(bodies()), drawn(whole_body(bodies()))
    cv2.circle(image, (690, 400), 15, (0, 0, 0), -1)  # the left wrist
    body = Metadata("markers", (192, 256), HALPE_26, name="halpe", **fit(26))
    hands = Metadata("markers", (256, 256), HAND_21, name="hand", **fit(21))
    colors = np.concatenate([BODY_COLORS, np.full((9, 3), (7, 77, 177), np.uint8)])
    halpe = write_marker_weights(tmp_path / "halpe.onnx", body, colors)
    hand = write_marker_weights(tmp_path / "hand.onnx", hands, HAND_COLORS)
    found = hrpose.load(halpe, hands=hand, detector="full-image", covariance=True)(image, [BOX])
    assert found.skeleton == HALPE_HANDS_68
    assert np.linalg.norm(found.xy[0, 47:] - truth.xy[0, 112:], axis=1).max() < 2
    assert found.covariance is not None
    assert found.presence is not None
    spread = np.sqrt(np.linalg.det(found.covariance[0]))
    # The hand that was not looked at is somewhere near the person, and absent.
    assert spread[26:47].min() > 800**2 * 0.9 > 20**2 > spread[47:].max()
    np.testing.assert_array_equal(found.presence[0, 26:47], np.tile([0, 0, 1], (21, 1)))
    assert found.presence[0, 47:, 2].max() < 1
    # A hand model that does not tell the presence: nothing tells it of all keypoints then.
    without = write_marker_weights(
        tmp_path / "without.onnx", replace(hands, presence=None), HAND_COLORS
    )
    found = hrpose.load(halpe, hands=without, detector="full-image", covariance=True)(image, [BOX])
    assert found.presence is None


@settings(max_examples=50, deadline=None)
@given(
    bend=st.floats(-60, 60), turn=st.floats(0, 360), scale=st.floats(20, 300),
    spread=st.floats(0.2, 1.3), length=st.floats(0.6, 0.85),
)  # fmt: skip
def test_a_crop_holds_the_hand(
    bend: float, turn: float, scale: float, spread: float, length: float
) -> None:
    """Hands of people are 0.74 of a forearm long; bent at the wrist they are inside too."""

    def turned(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return points @ np.array([[cos, sin], [-sin, cos]])

    # Elbow, wrist, shoulder; the forearm is 1 long, the upper arm as long as a person's.
    arm = np.array([(1, 0), (0, 0), (-0.9, -0.9)], np.float64)
    points = turned(hand(spread) * length, bend) + np.array([1, 0])
    arm, points = (turned(p, turn) * scale + (500, 400) for p in (arm, points))
    keypoints = np.ones((1, 17, 3), np.float32)
    keypoints[0, [9, 7, 5], :2] = arm
    left, right = hand_crops(keypoints, arms_of(COCO_17))[0]
    assert np.isnan(right).all()
    assert left[2] == left[3] == pytest.approx(1.5 * max(1, 0.9 * 1.2728) * scale, rel=1e-3)
    assert ((points > left[:2] - 1e-6) & (points < left[:2] + left[2:] + 1e-6)).all()


def test_what_a_crop_needs() -> None:
    keypoints = bodies().keypoints.copy()
    arms = arms_of(COCO_17)
    both = hand_crops(keypoints, arms)
    # The shoulder only adds to the size: without it the forearm alone tells it.
    keypoints[0, 5, 2] = 0.1
    alone = hand_crops(keypoints, arms)
    assert alone[0, 0, 2] == pytest.approx(1.5 * np.hypot(70, 100))
    assert alone[0, 0, 2] <= both[0, 0, 2]
    for index in (7, 9):
        unsure = bodies().keypoints.copy()
        unsure[0, index, 2] = 0.29
        assert np.isnan(hand_crops(unsure, arms)[0, 0]).all()
        assert np.isfinite(hand_crops(unsure, arms)[0, 1]).all()
    keypoints[0, [5, 7, 9], :2] = 100  # nothing tells a size
    assert np.isnan(hand_crops(keypoints, arms)[0, 0]).all()
    assert hand_crops(keypoints[:0], arms).shape == (0, 2, 4)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: dict[str, Path]) -> None:
    with refused("weights-unsuitable", "coco-17"):
        hrpose.load(weights["body"], hands=weights["body"])
    animal = Metadata("tiny", (48, 64), AP_10K, name="dog")
    dog = write_tiny_weights(tmp_path / "dog.onnx", animal)
    with refused("keypoint-unknown", "left_wrist"):
        hrpose.load(dog, hands=weights["hand-21"])
    with refused("covariance-missing"):
        hrpose.load(weights["body"], hands=weights["hand-21"], covariance=True)


def test_persons_in_clips_keep_their_ids_and_hands(
    tmp_path: Path, weights: dict[str, Path]
) -> None:
    truths = [whole_body(bodies(BODY + np.array([4 * step, 2 * step]))) for step in range(3)]
    frames = [Image.fromarray(drawn(truth)) for truth in truths]
    clip = tmp_path / "clip.png"
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=40, compress_level=1)
    # Wild hands, elsewhere in each frame, do not change who is who.
    wild = write_tiny_weights(tmp_path / "wild.onnx", Metadata("tiny", (48, 64), HAND_21, name="w"))
    alone, with_hands, with_wild = (
        [poses for _, poses in hrpose.track(clip, weights["body"], smooth=False, **options)]
        for options in (
            {"detector": "full-image", "exact": True, "hands": hands}
            for hands in (None, weights["hand-21"], wild)
        )
    )
    for one, two, other, truth in zip(alone, with_hands, with_wild, truths, strict=True):
        assert np.linalg.norm(two.xy[0, 17:] - truth.xy[0, 91:], axis=1).max() < 2
        for found in (two, other):
            np.testing.assert_array_equal(one.track_ids, [1])
            np.testing.assert_array_equal(one.track_ids, found.track_ids)
            np.testing.assert_array_equal(one.keypoints, found.keypoints[:, :17])


def test_predict_with_hands(tmp_path: Path, weights: dict[str, Path]) -> None:
    truth = whole_body(bodies())
    Image.fromarray(drawn(truth)).save(tmp_path / "person.png")
    command = ["predict", str(tmp_path / "person.png"), "--weights", str(weights["body"])]
    command += [
        "--detector",
        "full-image",
        "--save",
        "images,coco,csv",
        "--out",
        str(tmp_path / "out"),
    ]
    ran = CliRunner().invoke(app, [*command, "--hands", str(weights["hand-21"])])
    assert ran.exit_code == 0, ran.output
    (entry,) = json.loads((tmp_path / "out" / "poses.json").read_text())
    found = np.reshape(entry["keypoints"], (59, 3))
    assert np.linalg.norm(found[17:, :2] - truth.xy[0, 91:], axis=1).max() < 1.4
    header = json.loads((tmp_path / "out" / "poses.jsonl").read_text().partition("\n")[0])
    assert header["weights"] == "body, hands: hand-21"
    rows = (tmp_path / "out" / "poses.csv").read_text().splitlines()
    assert sum("left_pinky_finger4" in row for row in rows) == 1
    # The drawn image has the colors of fingers at the tips.
    tip = truth.xy[0, 91 + 8].round().astype(int)
    shown = np.asarray(Image.open(tmp_path / "out" / "person.png"))[tip[1] - 2 : tip[1] + 3]
    pink = np.abs(shown[:, tip[0] - 2 : tip[0] + 3].astype(int) - (255, 110, 200)).sum(axis=-1)
    assert pink.min() < 120
    refusal = CliRunner().invoke(app, [*command, "--overwrite", "--hands", str(weights["body"])])
    assert isinstance(refusal.exception, UserError)
    assert refusal.exception.code == "weights-unsuitable"
