"""Results as files of the tools that measure movement, read by others than their writers."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.formats.opensim import marker_names, mot
from hrpose.poses import Poses
from hrpose.predict import FORMATS, motion
from hrpose.predict.record import Entry, Header, RecordWriter, write_files
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, SHIPPED
from refusals import check_refusal, refused

RATE, SIZE = 25.0, (640, 480)
HEADER = Header("clip", COCO_17, 0.3, "walk.mp4", "w32-small", "builtin", *SIZE, RATE, "1/12800")
# The ids of the persons in each frame; nobody is in the second one.
FRAMES: Sequence[Sequence[int]] = ((3, 7), (), (7,), (3, 7))


def poses(frame: int, ids: Sequence[int]) -> Poses:
    rng = np.random.default_rng([frame, *ids])
    keypoints = rng.uniform(0, 480, (len(ids), 17, 3)).astype(np.float32)
    keypoints[..., 2] = rng.uniform(0.3, 1, (len(ids), 17))
    keypoints[:, 4, 2] = 0.1  # the right ear is absent
    boxes = np.tile(np.float32([1, 2, 30, 40]), (len(ids), 1))
    scores = rng.uniform(0.5, 1, len(ids)).astype(np.float32)
    return Poses(keypoints, boxes, scores, COCO_17, np.array(ids, np.int64))


def record(folder: Path, frames: Sequence[Sequence[int]] = FRAMES) -> Path:
    writer = RecordWriter(folder / "walk.jsonl", HEADER)
    for frame, ids in enumerate(frames):
        found = poses(frame, ids)
        writer.add(Entry.of("walk.mp4", frame + 1, SIZE, found, frame=frame, time=frame / RATE))
    writer.close(complete=True)
    return writer.path


def of_images(folder: Path, *names: str) -> Path:
    writer = RecordWriter(folder / "poses.jsonl", Header("images", COCO_17, 0.3))
    for number, name in enumerate(names, 1):
        found = poses(number, [0])
        writer.add(
            Entry.of(name, number, SIZE, Poses(found.keypoints, found.boxes, found.scores, COCO_17))
        )
    writer.close(complete=True)
    return writer.path


def expected(frames: Sequence[Sequence[int]] = FRAMES) -> NDArray[np.float64]:
    """(t, n, 17, 3) what a file with scores must have."""
    ids = sorted({id for frame in frames for id in frame})
    values = np.full((len(frames), len(ids), 17, 3), np.nan)
    for frame, own in enumerate(frames):
        for row, id in enumerate(own):
            values[frame, ids.index(id)] = poses(frame, own).keypoints[row]
    return values


def convert(path: Path, save: str, *options: str) -> None:
    run = CliRunner().invoke(
        app, ["data", "convert", "results", str(path), "--save", save, *options],
        catch_exceptions=False,
    )  # fmt: skip
    assert run.exit_code == 0, run.output


def test_openpose_has_a_file_for_each_frame(tmp_path: Path) -> None:
    convert(record(tmp_path), "openpose")
    files = sorted((tmp_path / "walk_json").iterdir())
    assert [file.name for file in files] == [
        f"walk_{frame:012d}_keypoints.json" for frame in range(len(FRAMES))
    ]
    for frame, (file, ids) in enumerate(zip(files, FRAMES, strict=True)):
        people = json.loads(file.read_bytes())["people"]
        assert [person["person_id"] for person in people] == [[id] for id in ids]
        found = [person["pose_keypoints_2d"] for person in people]
        assert np.reshape(found, (-1, 17, 3)) == pytest.approx(
            poses(frame, ids).keypoints, abs=1e-4
        )


def test_openpose_names_images(tmp_path: Path) -> None:
    convert(of_images(tmp_path, "a/b.jpg", "a_b.png", "c.jpg"), "openpose")
    files = {file.name: json.loads(file.read_bytes()) for file in tmp_path.glob("poses_json/*")}
    assert {*files} == {
        "a_b_keypoints.json", "a_b_2_keypoints.json", "c_keypoints.json"
    }  # fmt: skip
    assert all(file["people"][0]["person_id"] == [-1] for file in files.values())


@pytest.mark.parametrize("units", ["px", "m"])
def test_trc_has_a_file_for_each_person(tmp_path: Path, units: str) -> None:
    scale = 0.005
    options = ["--known", "0,0,0,200=1"] if units == "m" else []
    convert(record(tmp_path), "trc", *options)
    names = [f"walk_{units}_person{id}.trc" for id in (3, 7)]
    assert sorted(file.name for file in (tmp_path / "walk_trc").iterdir()) == names
    for person, name in enumerate(names):
        lines = (tmp_path / "walk_trc" / name).read_text().splitlines()
        head = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
        assert (head["Units"], head["NumFrames"], head["NumMarkers"]) == (units, "4", "17")
        assert float(head["DataRate"]) == RATE
        assert lines[3].split("\t")[2::3][:6] == [
            "Nose", "LEye", "REye", "LEar", "REar", "LShoulder"
        ]  # fmt: skip
        rows = [line.split("\t") for line in lines[5:]]
        assert {len(row) for row in rows} == {2 + 3 * 17}
        assert [float(row[1]) for row in rows] == pytest.approx([0, 0.04, 0.08, 0.12])
        found = np.array([[float(cell or "nan") for cell in row[2:]] for row in rows])
        xyz, truth = found.reshape(4, 17, 3), expected()[:, person]
        x, y = truth[..., 0], truth[..., 1]
        if units == "m":  # up from the lower left corner of the image
            x, y = (x + 0.5) * scale, (SIZE[1] - 0.5 - y) * scale
        absent = np.isnan(truth[..., 2]) | (truth[..., 2] < 0.3)
        assert absent[:, 4].all()
        assert (np.isnan(xyz).all(axis=-1) == absent).all()
        assert xyz[~absent, 0] == pytest.approx(x[~absent], abs=1e-4)
        assert xyz[~absent, 1] == pytest.approx(y[~absent], abs=1e-4)
        assert (xyz[~absent, 2] == 0).all()


@pytest.mark.parametrize("frames", [FRAMES, ((5,), (5,), ())], ids=["several", "one"])
def test_deeplabcut_has_the_same_numbers_as_table_and_as_hdf5(
    tmp_path: Path, frames: Sequence[Sequence[int]]
) -> None:
    convert(record(tmp_path, frames), "dlc,dlc-csv")
    truth = expected(frames)
    names = [f"person{id}" for id in sorted({id for frame in frames for id in frame})]
    levels = ["scorer", "individuals", "bodyparts", "coords"]
    if len(names) == 1:
        levels.remove("individuals")
    columns = [
        ("DLC_hrpose", *([name] if len(names) > 1 else []), keypoint, coord)
        for name in names
        for keypoint in COCO_17.keypoints
        for coord in ("x", "y", "likelihood")
    ]
    with (tmp_path / "walkDLC_hrpose.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    heads, rows = rows[: len(levels)], rows[len(levels) :]
    assert [head[0] for head in heads] == levels
    assert list(zip(*(head[1:] for head in heads), strict=True)) == columns
    assert [row[0] for row in rows] == [str(frame) for frame in range(len(frames))]
    values = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows])
    assert values == pytest.approx(truth.reshape(len(frames), -1), abs=1e-4, nan_ok=True)
    with h5py.File(tmp_path / "walkDLC_hrpose.h5") as file:
        frame = file["df_with_missing"]
        assert frame.attrs["pandas_type"] == b"frame"
        assert frame["block0_values"][()] == pytest.approx(values, abs=0, nan_ok=True)
        for level, name in enumerate(levels):
            texts = [text.decode() for text in frame[f"axis0_level{level}"]]
            assert frame[f"axis0_level{level}"].attrs["name"] == name.encode()
            found = [texts[code] for code in frame[f"axis0_label{level}"]]
            assert found == [column[level] for column in columns]


def test_deeplabcut_of_nobody_has_one_who_is_in_no_frame(tmp_path: Path) -> None:
    convert(record(tmp_path, ((), ())), "dlc-csv,dlc,sleap,trc")
    rows = (tmp_path / "walkDLC_hrpose.csv").read_text().splitlines()[3:]
    assert [row.split(",")[0] for row in rows] == ["0", "1"]
    assert not any(row.strip("01,") for row in rows)
    assert not list((tmp_path / "walk_trc").iterdir())


def test_sleap_has_tracks_and_scores(tmp_path: Path) -> None:
    convert(record(tmp_path), "sleap")
    with h5py.File(tmp_path / "walk.slp") as file:
        tables = {name: file[name][()] for name in ("frames", "instances", "pred_points")}
        tracks = [json.loads(text)[1] for text in file["tracks_json"]]
        video = json.loads(file["videos_json"][0])
        body = json.loads(file["metadata"].attrs["json"])
    assert tracks == ["person3", "person7"]
    assert video["filename"] == "walk.mp4"
    assert video["backend"]["shape"] == [4, 480, 640, 3]
    assert [node["name"] for node in body["nodes"]] == list(COCO_17.keypoints)
    assert len(body["skeletons"][0]["links"]) == len(COCO_17.limbs) + len(COCO_17.flip_pairs)
    found = np.full((4, 2, 17, 3), np.nan)
    for frame in tables["frames"]:
        for at in range(frame["instance_id_start"], frame["instance_id_end"]):
            instance = tables["instances"][at]
            assert instance["instance_type"] == 1  # predicted
            points = tables["pred_points"][instance["point_id_start"] : instance["point_id_end"]]
            assert points["visible"].all()
            found[frame["frame_idx"], instance["track"]] = np.transpose(
                [points["x"], points["y"], points["score"]]
            )
    assert found == pytest.approx(expected(), abs=1e-4, nan_ok=True)
    assert tables["instances"]["score"] == pytest.approx(
        np.concatenate([poses(frame, ids).scores for frame, ids in enumerate(FRAMES)]), abs=1e-6
    )


@pytest.mark.slow
def test_nwb_has_a_file_for_each_person(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb", reason="needs hrpose[nwb]")
    convert(record(tmp_path), "nwb")
    for person, id in enumerate((3, 7)):
        with pynwb.NWBHDF5IO(tmp_path / "walk_nwb" / f"walk_person{id}.nwb", "r") as file:
            content = file.read()
            assert content.identifier == f"person{id}"
            estimate = content.processing["behavior"]["PoseEstimation"]
            series = estimate.pose_estimation_series
            assert [*estimate.skeleton.nodes] == list(COCO_17.keypoints)
            for at, keypoint in enumerate(COCO_17.keypoints):
                own = series[keypoint]
                assert (own.rate, own.starting_time, own.unit) == (RATE, 0, "pixels")
                found = np.column_stack([own.data[()], own.confidence[()]])
                assert found == pytest.approx(expected()[:, person, at], abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("skeleton", SHIPPED.values(), ids=lambda skeleton: skeleton.name)
def test_marker_names_stay_distinct(skeleton) -> None:
    names = marker_names(skeleton.keypoints)
    assert len({*names}) == len(skeleton)
    assert not any(character.isspace() for name in names for character in name)


def test_marker_names_that_would_be_one_stay_as_they_are() -> None:
    assert marker_names(["left_eye", "LEye"]) == ["left_eye", "LEye"]
    assert marker_names(["left_big_toe", "right-heel"]) == ["LBigToe", "RHeel"]


def test_mot_says_that_it_is_in_degrees() -> None:
    lines = "".join(
        mot("a b", ["left knee"], np.array([0.0, 0.04]), np.array([[12.5], [np.nan]]))
    ).splitlines()
    assert lines[:6] == [
        "a_b", "version=1", "nRows=2", "nColumns=2", "inDegrees=yes", "endheader"
    ]  # fmt: skip
    assert lines[6:] == ["time\tleft_knee", "0.000000\t12.500000", "0.040000\tnan"]


CLIP_ONLY = [name for name, each in FORMATS.items() if each.clips]


@pytest.mark.parametrize("kind", CLIP_ONLY)
def test_formats_of_clips_refuse_images(tmp_path: Path, kind: str) -> None:
    path = of_images(tmp_path, "a.jpg")
    run = CliRunner().invoke(app, ["data", "convert", "results", str(path), "--save", kind])
    check_refusal(run, "clip-needed", str(path), kind)
    with refused("clip-needed", str(path)):
        write_files(path, {kind: tmp_path / f"poses{FORMATS[kind].suffix}"})


def test_predict_refuses_images_before_the_work_begins(tmp_path: Path) -> None:
    image = Path("examples/astronaut.jpg").resolve()
    arguments = ["predict", str(image), "--out", str(tmp_path / "out"), "--save", "trc"]
    check_refusal(CliRunner().invoke(app, arguments), "clip-needed", "trc", "--save")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "mention"),
    [
        (["--height", "1.8"], "option-conflict", "trc"),
        (
            ["--save", "trc", "--height", "1.8", "--known", "0,0,0,1=1"],
            "option-conflict",
            "--known",
        ),
        (["--save", "trc", "--known", "0,0,0,0=1"], "option-invalid", "0,0,0,0=1"),
        (["--save", "trc", "--known", "tall"], "option-invalid", "tall"),
    ],
)
def test_a_scale_is_one_and_for_trc(
    tmp_path: Path, options: list[str], code: str, mention: str
) -> None:
    arguments = ["data", "convert", "results", str(record(tmp_path)), *options]
    check_refusal(CliRunner().invoke(app, arguments), code, mention)
    assert not (tmp_path / "walk_trc").exists()


def test_a_height_is_that_of_the_measures(tmp_path: Path) -> None:
    """A segment of the largest person has the length that `hrpose measure` says."""
    from hrpose.measurement import measure_recordings
    from hrpose.measurement.recordings import read_results

    path = record(tmp_path)
    convert(path, "trc", "--height", "1.8")
    measured = measure_recordings(read_results(path), only=["thigh_left"], height=1.8)
    for series in measured.series:
        lines = (tmp_path / "walk_trc" / f"walk_m_person{series.track.person}.trc").read_text()
        rows = [line.split("\t") for line in lines.splitlines()]
        hip, knee = (rows[3].index(name) for name in ("LHip", "LKnee"))
        values = np.array([[float(cell) for cell in row[:53]] for row in rows[5:]])
        found = np.hypot(*(values[:, hip : hip + 2] - values[:, knee : knee + 2]).T)
        assert found[series.track.frames] == pytest.approx(series.values[:, 0], abs=1e-5)


def test_mot_has_the_angles_of_the_measures(tmp_path: Path) -> None:
    convert(record(tmp_path), "mot")
    lines = (tmp_path / "walk_mot" / "walk_person7.mot").read_text().splitlines()
    assert lines[:3] == ["walk_person7.mot", "version=1", "nRows=3"]
    rows = [line.split("\t") for line in lines[lines.index("endheader") + 1 :]]
    columns = dict(zip(rows[0], np.array(rows[1:], float).T, strict=True))
    assert columns["time"] == pytest.approx([0, 0.08, 0.12])  # the frames that the person is in
    assert "thigh_left" not in columns  # a length
    at = {name: expected()[[0, 2, 3], 1, i, :2] for i, name in enumerate(COCO_17.keypoints)}
    u, v = at["left_hip"] - at["left_knee"], at["left_ankle"] - at["left_knee"]
    cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    assert columns["knee_left"] == pytest.approx(180 - np.degrees(np.arccos(cosine)), abs=1e-3)
    assert np.isnan(columns["head"]).all()  # an ear is absent


def test_mot_of_a_skeleton_without_angles_is_refused(tmp_path: Path) -> None:
    two = Skeleton("stick", ("top", "bottom"), limbs=((0, 1),))
    writer = RecordWriter(tmp_path / "stick.jsonl", replace(HEADER, skeleton=two))
    points = np.ones((1, 2, 3), np.float32)
    one = Poses(points, np.ones((1, 4), np.float32), points[:, 0, 0], two, np.array([1]))
    writer.add(Entry.of("stick.mp4", 1, SIZE, one, frame=0, time=0.0))
    writer.close()
    arguments = ["data", "convert", "results", str(writer.path), "--save", "mot"]
    check_refusal(CliRunner().invoke(app, arguments), "skeleton-incomplete", "stick")
    assert not (tmp_path / "stick_mot").exists()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_results_lead_to_their_record(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path)
    convert(path, "coco,csv")
    convert(path.with_suffix(suffix), "dlc-csv")
    assert (tmp_path / "walkDLC_hrpose.csv").exists()
    path.unlink()
    arguments = ["data", "convert", "results", str(path.with_suffix(suffix)), "--save", "dlc-csv"]
    check_refusal(
        CliRunner().invoke(app, arguments), "record-missing", f"walk{suffix}", "walk.jsonl"
    )


def test_a_file_of_another_tool_is_no_record(tmp_path: Path) -> None:
    other = tmp_path / "walk.jsonl"
    other.write_text('{"version": 1.3, "people": []}\n')
    arguments = ["data", "convert", "results", str(other), "--save", "trc"]
    check_refusal(CliRunner().invoke(app, arguments), "record-invalid", str(other), "line 1")


def test_a_folder_is_replaced_whole_and_only_with_overwrite(tmp_path: Path) -> None:
    path = record(tmp_path)
    convert(path, "openpose")
    arguments = ["data", "convert", "results", str(path), "--save", "openpose"]
    check_refusal(CliRunner().invoke(app, arguments), "overwrite-refused", "walk_json")
    record(tmp_path, FRAMES[:1])
    convert(path, "openpose", "--overwrite")
    assert len(list((tmp_path / "walk_json").iterdir())) == 1


@pytest.mark.parametrize("other", ["notes.txt", "folder", "link.json"])
def test_a_folder_with_anything_else_is_not_replaced(tmp_path: Path, other: str) -> None:
    path = record(tmp_path)
    convert(path, "openpose")
    place = tmp_path / "walk_json" / other
    if other == "folder":
        place.mkdir()
    elif other == "link.json":
        place.symlink_to(path)
    else:
        place.write_text("mine")
    arguments = ["data", "convert", "results", str(path), "--save", "openpose", "--overwrite"]
    check_refusal(CliRunner().invoke(app, arguments), "overwrite-refused", other)
    assert len(list((tmp_path / "walk_json").iterdir())) == len(FRAMES) + 1


def test_a_crowd_of_a_long_clip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion, "_MAX_VALUES", 100)
    arguments = ["data", "convert", "results", str(record(tmp_path)), "--save", "dlc-csv"]
    check_refusal(CliRunner().invoke(app, arguments), "clip-too-large", "4 frames", "2 persons")
    assert not (tmp_path / "walkDLC_hrpose.csv").exists()
