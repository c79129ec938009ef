"""Prediction from images, folders, clips, cameras and addresses to files of poses.

`inputs` finds the images and clips and predicts the images (clips are `hrpose.video`'s); `record`
writes results as they come, `results` the drawn images and clips. `FORMATS` are the other files of
results: each is made from a record, at the end of a prediction or later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from hrpose.errors import UserError, missing


@dataclass(frozen=True, slots=True)
class Format:
    """A format of results.

    `suffix` follows the stem of a record; one that ends with a slash is a folder, with a file for
    each frame or person. `writer` is a module of this package and its function, called with the
    record and an open binary file, or with the folder. `clips` is whether it needs the frames of a
    clip. `package` is what it needs beyond the base install, and `extra` what installs that.
    `options` are the names of what its writer takes beyond the two.
    """

    suffix: str
    writer: str
    help: str
    clips: bool = False
    package: str | None = None
    extra: str = ""
    options: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "coco": Format(".json", "record:write_coco", "COCO keypoint results, .json"),
    "csv": Format(
        ".csv", "record:write_table_csv", "a table with a row for each keypoint, .csv"
    ),
    "parquet": Format(
        ".parquet", "record:write_table_parquet", "the same table, .parquet (needs pyarrow)",
        package="pyarrow.parquet", extra="hrpose[tables]",
    ),
    "openpose": Format(
        "_json/", "motion:write_openpose", "OpenPose JSON for each frame, for Pose2Sim"
    ),
    "trc": Format(
        "_trc/", "motion:write_trc", "keypoints of each person for OpenSim and Sports2D, .trc, "
        "in pixels", clips=True, options=("height", "known"),
    ),
    "mot": Format(
        "_mot/", "motion:write_mot", "angles of each person for OpenSim, .mot, in degrees",
        clips=True, package="hrpose.measurement", extra="hrpose[measure]",
    ),
    "dlc": Format(
        "DLC_hrpose.h5", "motion:write_dlc", "DeepLabCut, .h5 (needs h5py)", clips=True,
        package="h5py", extra="hrpose[hdf5]",
    ),
    "dlc-csv": Format(
        "DLC_hrpose.csv", "motion:write_dlc_csv", "DeepLabCut, .csv", clips=True
    ),
    "sleap": Format(
        ".slp", "motion:write_sleap", "SLEAP, .slp (needs h5py)", clips=True,
        package="h5py", extra="hrpose[hdf5]",
    ),
    "nwb": Format(
        "_nwb/", "motion:write_nwb", "NWB of each person, .nwb (needs ndx-pose)", clips=True,
        package="ndx_pose", extra="hrpose[nwb]",
    ),
}  # fmt: skip

# The formats that need a clip or a package.
NEEDING = frozenset(kind for kind, each in FORMATS.items() if each.clips or each.package)


def check_formats(kinds: frozenset[str], *, clip: bool, where: str) -> None:
    """Raise UserError where one of the `kinds` cannot be written, before the work begins.

    Its package may be missing; or it needs a clip, and `where` names images.
    """
    for kind in FORMATS:
        if kind not in kinds:
            continue
        if FORMATS[kind].clips and not clip:
            fits = ", ".join(name for name, each in FORMATS.items() if not each.clips)
            raise UserError(
                f"{where}: {kind} expected the frames of a clip, found images; "
                f"save one of {fits}, or predict the clip",
                code="clip-needed",
            )
        if (package := FORMATS[kind].package) is not None:
            try:
                import_module(package)
            except ModuleNotFoundError as error:
                raise missing(kind, error, FORMATS[kind].extra) from error
