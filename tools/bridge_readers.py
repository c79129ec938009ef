"""What `tools.bridges` runs in the environment of each other tool: reads our files with that tool.

    python tools/bridge_readers.py TOOL FOLDER

FOLDER has the results of a clip: walk.jsonl, which is the truth, and the files made from it. Prints
a JSON object: what was `compared`, the largest `difference`, its `unit`, and how many `values`.
Needs NumPy and the tool, not hrpose.
"""

import contextlib
import glob
import json
import math
import os
import sys
from pathlib import Path

import numpy as np

THRESHOLD = 0.3


def truth(folder, record="walk.jsonl"):
    """Names of keypoints, track ids, (t, n, k, 3) keypoints and the header of a record."""
    lines = [json.loads(line) for line in (folder / record).read_text().splitlines()]
    header, frames = lines[0], lines[1:-1]
    names = header["skeleton"]["keypoints"]
    ids = sorted({person["track_id"] for frame in frames for person in frame["persons"]})
    values = np.full((len(frames), len(ids), len(names), 3), np.nan)
    for row, frame in enumerate(frames):
        for person in frame["persons"]:
            points = np.reshape(person["keypoints"], (-1, 3))
            values[row, ids.index(person["track_id"])] = points
    return names, ids, values, header


def said(compared, found, expected, unit):
    """The largest difference of two arrays, which have to be missing at the same places."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape, (compared, found.shape, expected.shape)
    assert (np.isnan(found) == np.isnan(expected)).all(), f"{compared}: missing elsewhere"
    there = ~np.isnan(expected)
    difference = float(np.abs(found - expected)[there].max())
    return {
        "compared": compared, "difference": difference, "unit": unit, "values": int(there.sum())
    }  # fmt: skip


def pandas(folder):
    """What DeepLabCut's own code reads with: the data frame in the HDF5 file."""
    import pandas

    _, ids, values, _ = truth(folder)
    frame = pandas.read_hdf(folder / "walkDLC_hrpose.h5")
    names = list(frame.columns.get_level_values("individuals").unique())
    assert names == [f"person{id}" for id in ids], names
    yield said("h5: x, y, likelihood", frame, values.reshape(len(values), -1), "px")


def deeplabcut(folder):
    """DeepLabCut finds the results of a video by its name, and filters them."""
    import torch

    # torchvision's wheels for CUDA lack it beside a PyTorch for CPUs, and then cannot be imported.
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from deeplabcut.utils.auxiliaryfunctions import load_analyzed_data

    _, _, values, _ = truth(folder)
    frame, path, scorer, _ = load_analyzed_data(str(folder), "walk", "DLC_hrpose")
    assert (Path(path).name, scorer) == ("walkDLC_hrpose.h5", "DLC_hrpose"), (path, scorer)
    yield said("load_analyzed_data", frame, values.reshape(len(values), -1), "px")


def movement(folder):
    """The four loaders of movement."""
    from movement.io import load_poses

    names, ids, values, header = truth(folder)
    persons = [f"person{id}" for id in ids]

    def arrays(data):
        data = data.sel(keypoints=names)
        xy = data.position.transpose("time", "individuals", "keypoints", "space").values
        score = data.confidence.transpose("time", "individuals", "keypoints").values
        return np.concatenate([xy, score[..., None]], -1)

    rate = header["rate"]
    for label, load, file in (
        ("from_dlc_file, h5", load_poses.from_dlc_file, "walkDLC_hrpose.h5"),
        ("from_dlc_file, csv", load_poses.from_dlc_file, "walkDLC_hrpose.csv"),
        ("from_sleap_file", load_poses.from_sleap_file, "walk.slp"),
    ):
        data = load(folder / file, fps=rate)
        assert list(data.individuals.values) == persons
        yield said(label, arrays(data), values, "px")
    for person, name in enumerate(persons):
        data = load_poses.from_nwb_file(folder / "walk_nwb" / f"walk_{name}.nwb")
        assert list(data.individuals.values) == [name]
        assert abs(data.attrs["fps"] - rate) < 1e-4
        yield said(f"from_nwb_file, {name}", arrays(data), values[:, [person]], "px")


def sleap_io(folder):
    """sleap-io's labels, with tracks and scores."""
    import sleap_io

    names, ids, values, _ = truth(folder)
    labels = sleap_io.load_slp(str(folder / "walk.slp"), open_videos=False)
    assert labels.skeletons[0].node_names == names
    assert [track.name for track in labels.tracks] == [f"person{id}" for id in ids]
    found = np.full_like(values, np.nan)
    for frame in labels.labeled_frames:
        for instance in frame.predicted_instances:
            at = labels.tracks.index(instance.track)
            found[frame.frame_idx, at] = instance.numpy(scores=True)
    yield said("load_slp", found, values, "px")


def pynwb(folder):
    """NWB's validator, and what it reads."""
    import pynwb

    names, _, values, _ = truth(folder)
    for person, path in enumerate(sorted(glob.glob(str(folder / "walk_nwb" / "*.nwb")))):
        errors = pynwb.validate(path=path)
        errors = errors[0] if isinstance(errors, tuple) else errors
        assert not errors, errors
        with pynwb.NWBHDF5IO(path, "r") as file:
            content = file.read().processing["behavior"]["PoseEstimation"]
            series = [content.pose_estimation_series[name] for name in names]
            found = [np.column_stack([each.data[()], each.confidence[()]]) for each in series]
        yield said(f"validated, {Path(path).stem}", np.stack(found, 1), values[:, person], "px")


def opensim(folder):
    """OpenSim's own readers of TRC, in pixels and meters, and of MOT."""
    import opensim

    opensim.Logger.setLevelString("error")
    names, ids, values, header = truth(folder)
    present = np.where(values[..., 2:] >= THRESHOLD, values[..., :2], np.nan)
    scale, height = json.loads((folder / "scale.json").read_text()), header["height"]
    up = np.stack([present[..., 0] + 0.5, height - 0.5 - present[..., 1]], -1) * scale
    for units, truths, unit in (("px", present, "px"), ("m", up, "m")):
        for person, id in enumerate(ids):
            path = folder / f"walk_trc_{units}" / f"walk_{units}_person{id}.trc"
            table = opensim.TimeSeriesTableVec3(str(path))
            assert table.getTableMetaDataString("Units") == units
            found = np.array(
                [
                    [[row[column][axis] for axis in range(3)] for column in range(len(names))]
                    for row in (table.getRowAtIndex(at) for at in range(table.getNumRows()))
                ]
            )
            yield said(f"TRC in {units}, person{id}", found[..., :2], truths[:, person], unit)
    for path in sorted(glob.glob(str(folder / "walk_mot" / "*.mot"))):
        table = opensim.TimeSeriesTable(path)
        assert table.getTableMetaDataString("inDegrees") == "yes"
        rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
        rows = rows[rows.index(["endheader"]) + 1 :]
        assert list(table.getColumnLabels()) == rows[0][1:]
        lines = [table.getRowAtIndex(at) for at in range(table.getNumRows())]
        found = [[line[column] for column in range(line.size())] for line in lines]
        numbers = np.array(rows[1:], float)[:, 1:]
        yield said(f"MOT, {Path(path).stem}", found, numbers, "degrees")


def pose2sim(folder):
    """Pose2Sim's triangulation of three cameras that see one person, whose place is known."""
    from Pose2Sim import Pose2Sim
    from Pose2Sim.common import read_trc

    os.chdir(folder / "cameras")
    config = {
        "project": {"project_dir": str(folder / "cameras"), "frame_rate": 30, "frame_range": "all"},
        "pose": {"pose_model": "Body"},
        "triangulation": {"make_c3d": False, "interpolation": "none"},
        "logging": {"use_custom_logging": False},
    }
    Pose2Sim.triangulation(config)
    (path,) = glob.glob("pose-3d/*.trc")
    points, *_, markers, _ = read_trc(path)
    about = json.loads(Path("truth.json").read_text())
    world = dict(zip(about["markers"], np.moveaxis(np.array(about["points"]), 1, 0), strict=True))
    # Its y is up, ours z: x, y, z there are y, z, x here.
    expected = np.stack([world[marker][:, [1, 2, 0]] for marker in markers], 1)
    found = points.to_numpy(float).reshape(len(points), len(markers), 3)
    yield said(f"triangulated, {len(markers)} keypoints", found * 1000, expected * 1000, "mm")


# Sports2D's angles that need no feet: the points, what is added, and the sign (its README).
JOINTS = {
    "right knee": (("right_ankle", "right_knee", "right_hip"), -180, 1),
    "left knee": (("left_ankle", "left_knee", "left_hip"), -180, 1),
    "right elbow": (("right_wrist", "right_elbow", "right_shoulder"), 180, -1),
    "left elbow": (("left_wrist", "left_elbow", "left_shoulder"), 180, -1),
}
SEGMENTS = {
    "right shank": ("right_ankle", "right_knee"),
    "left shank": ("left_ankle", "left_knee"),
    "right thigh": ("right_knee", "right_hip"),
    "left thigh": ("left_knee", "left_hip"),
    "right arm": ("right_elbow", "right_shoulder"),
    "left arm": ("left_elbow", "left_shoulder"),
    "right forearm": ("right_wrist", "right_elbow"),
    "left forearm": ("left_wrist", "left_elbow"),
}


def sports2d(folder):
    """Sports2D's angles of the TRC file, against those of the keypoints by its definitions."""
    from Sports2D import Sports2D

    names, ids, values, _ = truth(folder)
    person = int(np.isfinite(values[..., 0]).all(-1).sum(0).argmax())
    trc = folder / "walk_trc_px" / f"walk_px_person{ids[person]}.trc"
    config = {
        "base": {
            "video_input": ["walk.mp4"], "video_dir": str(folder), "result_dir": str(folder),
            "load_trc_px": str(trc), "nb_persons_to_detect": 1, "visible_side": ["right"],
            "person_ordering_method": "first_detected", "show_realtime_results": False,
            "save_vid": False, "save_img": False, "time_range": [],
        },
        "pose": {"pose_model": "Body"},
        "px_to_meters_conversion": {"to_meters": False, "make_c3d": False, "save_calib": False},
        "angles": {"correct_segment_angles_with_floor_angle": False},
        "post-processing": {
            "interpolate": False, "filter": False, "reject_outliers": False,
            "show_graphs": False, "save_graphs": False,
        },
        "kinematics": {"do_ik": False},
    }  # fmt: skip
    Sports2D.process(config)
    (path,) = glob.glob(str(folder / "walk_Sports2D" / "*.mot"))
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    rows = rows[rows.index(["endheader"]) + 1 :]
    columns = {
        name: np.array([float(row[at] or "nan") for row in rows[1:]])
        for at, name in enumerate(rows[0])
    }
    points = np.where(values[:, person, :, 2:] >= THRESHOLD, values[:, person, :, :2], np.nan)
    at = {name: points[:, names.index(name)] for name in names}
    expected = {}
    for name, ((a, b, c), more, sign) in JOINTS.items():
        u, v = at[a] - at[b], at[c] - at[b]
        angle = -np.degrees(np.arctan2(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0], (u * v).sum(1)))
        expected[name] = (angle + more) * sign
    for name, (a, b) in SEGMENTS.items():
        x, y = (at[a] - at[b]).T
        expected[name] = -np.degrees(np.arctan2(y, x))
    found = np.stack([columns[name] for name in expected], 1)
    wanted = np.stack(list(expected.values()), 1)
    # It fills the first and last frames of each angle, and unwraps angles by 180 degrees.
    inside = np.isfinite(wanted)
    for shift in (-2, -1, 1, 2):
        inside &= np.isfinite(np.roll(wanted, shift, 0))
    difference = (found - wanted + 90) % 180 - 90
    difference = np.where(inside, difference, np.nan)
    person = f"person{ids[person]}"
    yield said(f"{len(expected)} angles, {person}", difference, 0 * difference, "degrees")
    yield _with_measures(folder / "walk_mot" / f"walk_{person}.mot", columns, inside.all(1))


def _with_measures(path, columns, inside):
    """The angles of `hrpose measure`, which have no sign or another one."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows = rows[rows.index(["endheader"]) + 1 :]
    own = dict(zip(rows[0], np.array(rows[1:], float).T, strict=True))
    at = np.searchsorted(columns["time"] + 1e-3, own["time"])
    pairs = []
    for side in ("left", "right"):
        for joint in ("knee", "elbow"):
            pairs.append((own[f"{joint}_{side}"], columns[f"{side} {joint}"], 0))
        for segment in ("thigh", "shank"):
            pairs.append((own[f"{segment}_tilt_{side}"], columns[f"{side} {segment}"], -90))
    pairs.append((own["trunk"], columns["trunk"], 90))
    differences = []
    for ours, theirs, vertical in pairs:
        theirs = (theirs[at] - vertical + 180) % 360 - 180
        # Sports2D's elbows are unwrapped by 180 degrees.
        off = np.abs(np.abs(ours) - np.abs(theirs))
        off = np.minimum(off, np.abs(180 - np.abs(ours) - np.abs(theirs)))
        differences.append(np.where(inside[at], off, np.nan))
    difference = np.stack(differences, 1)
    return said(f"{len(pairs)} of them with hrpose measure", difference, 0 * difference, "degrees")


READERS = {
    function.__name__: function
    for function in (pandas, deeplabcut, movement, sleap_io, pynwb, opensim, pose2sim, sports2d)
}


def main():
    """Read with one tool; its own words go to the standard error."""
    name, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    with contextlib.redirect_stdout(sys.stderr):
        rows = list(READERS[name](folder))
    assert all(math.isfinite(row["difference"]) for row in rows), rows
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
