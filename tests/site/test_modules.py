"""The modules of the page against the code that they follow: the same numbers as in Python."""

import base64
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.codec import CODECS, Codec
from hrpose.detection import person_detector
from hrpose.geometry import Crop, warp
from hrpose.metadata import Calibration, Confidence, Metadata
from hrpose.poses import Poses, rescore, select
from hrpose.skeletons import COCO_17

from .conftest import hosted

pytestmark = pytest.mark.browser

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the body of a function, whose `m` has what the modules export, with these arguments."""
    folder = tmp_path_factory.mktemp("modules")
    for package in ("serve", "site"):
        for file in (resources.files(f"hrpose.{package}") / "page").iterdir():
            if file.name.endswith(".js"):
                (folder / file.name).write_bytes(file.read_bytes())
    (folder / "empty.json").write_text("{}")
    with hosted(folder) as address:
        page = browser.new_page()
        page.goto(f"{address}/empty.json")

        def run(code: str, **values: Any) -> Any:
            arrays = {
                name: [value.dtype.name, base64.b64encode(value.tobytes()).decode()]
                for name, value in values.items()
                if isinstance(value, np.ndarray)
            }
            plain = {name: value for name, value in values.items() if name not in arrays}
            return page.evaluate(
                """async ([code, plain, arrays]) => {
                    const kinds = { uint8: Uint8Array, float32: Float32Array };
                    const names = ["crop", "pixels", "detection", "codec", "scores"];
                    const modules = await Promise.all(names.map((name) => import(`/${name}.js`)));
                    const values = { ...plain, m: Object.assign({}, ...modules) };
                    for (const [name, [kind, data]] of Object.entries(arrays)) {
                        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                        values[name] = new kinds[kind](bytes.buffer);
                    }
                    return new Function(...Object.keys(values), code)(...Object.values(values));
                }""",
                [code, plain, arrays],
            )

        yield run
        page.close()


def rgba(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


def photo(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise that is smooth enough to be like an image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    big = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return np.ascontiguousarray(big[:height, :width])


@pytest.mark.parametrize("unit_lengths", [False, True])
@pytest.mark.parametrize(
    "box", [[5, 6, 30, 50], [-20.5, 3.25, 60, 40], [0, 0, 61, 47], [40, 30, 200, 100]]
)
def test_a_crop_is_cut_as_by_opencv(run: Run, box: list[float], unit_lengths: bool) -> None:
    image = photo(61, 47)
    crop = Crop.from_box(box, (48, 64), 1.25, unit_lengths=unit_lengths)
    cut, matrix, inverse = run(
        """const crop = m.cropAround(box, [48, 64], 1.25, unitLengths);
        const cut = m.warp({ data, width: 61, height: 47 }, crop);
        return [[...cut], m.matrixOf(crop), m.inverseOf(crop)];""",
        data=rgba(image),
        box=box,
        unitLengths=unit_lengths,
    )
    assert np.allclose(matrix, crop.matrix)
    assert np.allclose(inverse, crop.inverse_matrix)
    # OpenCV rounds in another way on some processors.
    difference = np.abs(np.array(cut, int) - warp(image, crop).ravel())
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("size", [(200, 150), (61, 47), (130, 977), (640, 480)])
def test_the_input_of_the_detector(run: Run, size: tuple[int, int]) -> None:
    image = photo(*size)
    pixels, crop = person_detector.resize(image, 64)
    ours, width, height, inverse = run(
        """const { pixels, crop } = m.letterbox({ data, width: size[0], height: size[1] }, 64);
        return [[...pixels], ...crop.input, m.inverseOf(crop)];""",
        data=rgba(image),
        size=size,
    )
    assert (height, width) == pixels.shape[:2]
    assert np.allclose(inverse, crop.inverse_matrix)
    assert ours == pixels.ravel().tolist()


@pytest.mark.parametrize("confidence", [Confidence(), Confidence(3.0, 0.9, 2.7)])
def test_persons_in_the_maps_of_the_detector(run: Run, confidence: Confidence) -> None:
    rng = np.random.default_rng(3)
    boxes = np.array(
        [
            [20, 30, 60, 120],
            [150, 20, 40, 90],
            [155, 25, 42, 95],
            [-5, 100, 50, 100],
            [90, 3, 9, 20],
        ]
    )
    targets = person_detector.encode(boxes.astype(float), (256, 192))
    heat = np.clip(targets.heat * rng.uniform(0.5, 0.9, targets.heat.shape), 0, 1)
    heat = np.maximum(heat, rng.uniform(0, 0.1, heat.shape)).astype(np.float32)
    distances = (targets.distances + rng.uniform(0, 3, targets.distances.shape)).astype(np.float32)
    expected = person_detector.persons(*person_detector.decode(heat, distances), confidence, 0.15)
    crop = person_detector.letterbox((256, 192), 256)
    assert 3 <= len(expected) < 100
    found = run(
        """const crop = m.cropAround([0, 0, 256, 192], [256, 192], 1);
        const how = { confidence, threshold: 0.15 };
        return m.persons({ heat, distances }, crop, [9999, 9999], how);""",
        heat=heat,
        distances=distances,
        confidence={key: getattr(confidence, key) for key in ("heat", "size", "offset")},
    )
    assert np.allclose(crop.inverse_matrix, [[1, 0, 0], [0, 1, 0]])
    inside = expected.xywh.copy()
    inside[:, 2:] = inside[:, :2] + inside[:, 2:]
    inside = inside.clip(0)
    inside[:, 2:] -= inside[:, :2]
    assert np.allclose([person["box"] for person in found], inside, atol=1e-3)
    assert np.allclose([person["score"] for person in found], expected.scores, atol=1e-6)


def maps(codec: Codec, seed: int = 5) -> NDArray[np.float32]:
    """Heatmaps (17, 16, 12) of points everywhere, at the border too, with noise; one is empty."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, (50, 66), (17, 2))
    heatmaps, _ = codec.encode(points, np.ones(17), (48, 64))
    noisy = np.asarray(heatmaps) * 0.8 + rng.uniform(0, 0.05, np.shape(heatmaps))
    noisy[3] = 0
    return noisy.astype(np.float32)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_keypoints_of_heatmaps(run: Run, name: str, sigma: float) -> None:
    codec = Codec(name, sigma)
    heatmaps = maps(codec)
    points, peaks = codec.decode(heatmaps)
    found = run(
        "return m.decode(heatmaps, [12, 16], codec);",
        heatmaps=heatmaps,
        codec={"name": name, "sigma": sigma, "stride": 4},
    )
    assert np.allclose([[p["x"], p["y"]] for p in found], points, atol=2e-3)
    assert np.allclose([p["peak"] for p in found], peaks)


@pytest.mark.parametrize("name", CODECS)
def test_the_flip_test(run: Run, name: str) -> None:
    codec = Codec(name)
    direct, mirror = maps(codec), maps(codec, 6)
    expected = codec.merge_flipped(direct, mirror, COCO_17.flip_permutation)
    found = run(
        "return [...m.mergeFlipped(direct, mirror, [12, 16], pairs, { name })];",
        direct=direct,
        mirror=mirror,
        pairs=list(COCO_17.flip_pairs),
        name=name,
    )
    assert np.allclose(found, expected.ravel(), atol=1e-7)
    image = photo(12, 16)
    flipped = run("return [...m.mirrored(image, [12, 16])];", image=image)
    assert flipped == image[:, ::-1].ravel().tolist()


@pytest.mark.parametrize("calibration", [None, Calibration(1.7, 0.4)])
def test_scores_and_which_poses_remain(run: Run, calibration: Calibration | None) -> None:
    rng = np.random.default_rng(1)
    peaks = rng.uniform(-0.1, 1.1, (12, 17))
    metadata = Metadata(network="tiny", input_wh=(48, 64), calibration=calibration)
    scores = metadata.keypoint_scores(peaks)
    # Twelve poses, of which some repeat others, with one another's scores.
    xy = np.tile(rng.uniform(0, 200, (6, 17, 2)), (2, 1, 1)) + rng.normal(0, 2, (12, 17, 2))
    boxes = np.concatenate([xy.min(1), np.ptp(xy, axis=1)], 1)
    box_scores = rng.uniform(0.3, 1, 12)
    keypoints = np.concatenate([xy, scores[..., None]], -1).astype(np.float32)
    totals = rescore(keypoints, box_scores)
    totals[7] = totals[1]
    poses = Poses(keypoints, boxes.astype(np.float32), totals.astype(np.float32), COCO_17)
    expected = select(poses, detected=True, min_score=0.2)
    assert 3 < len(expected) < 10
    persons = [
        {"box": box, "score": total, "keypoints": [dict(zip("xy", p, strict=True)) for p in points]}
        for box, total, points in zip(
            poses.boxes.tolist(), poses.scores.tolist(), poses.xy.tolist(), strict=True
        )
    ]
    kept, found, total = run(
        """const numbered = persons.map((person, index) => ({ ...person, index }));
        const scored = peaks.map((row) => row.map((peak) => m.keypointScore(peak, calibration)));
        return [
            m.select(numbered, { minScore: 0.2, sigmas, distinct: true }).map((p) => p.index),
            scored,
            scored.map((row, i) => m.poseScore(row.map((score) => ({ score })), boxScores[i])),
        ];""",
        persons=persons,
        peaks=peaks.tolist(),
        sigmas=list(COCO_17.sigmas),
        boxScores=box_scores.tolist(),
        calibration=calibration and {"temperature": 1.7, "offset": 0.4},
    )
    assert kept == expected.tolist()
    assert np.allclose(found, scores, atol=1e-6)
    total[7] = total[1]
    assert np.allclose(total, totals, atol=1e-6)
