"""DeepLabCut: labels, which are read, and predictions on a video, which are written.

Labels are CollectedData_NAME.csv or .h5, or a folder of them such as labeled-data:

    scorer,,,Mona,Mona,Mona,Mona
    individuals,,,a1,a1,a2,a2               # in projects of several animals
    bodyparts,,,head,head,head,head
    coords,,,x,y,x,y
    labeled-data,moth,frame000.png,50.5,60.2,100,120

The image is one column (labeled-data/moth/frame000.png) or three. An empty coordinate is a keypoint
that is not labeled; images without any are not labeled yet and are left out. Points of the
individual `single` belong to no animal and are left out where there are animals. The .h5 file is
pandas' "fixed" format, of which text and numbers are read; pickled objects are refused.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.formats.hdf5 import Hdf5, read_hdf5
from hrpose.data.formats.pose_set import (
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    image_name,
    invalid,
    keypoint_name,
    left_out,
    number,
    pose_set,
    read_text,
    repeated_keypoint,
    skeleton_of,
)
from hrpose.data.images import ImageFiles, images_beside
from hrpose.errors import UserError, missing
from hrpose.skeletons import SHIPPED

_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_SINGLE = "single"


@dataclass(frozen=True, slots=True)
class _Table:
    """The columns as (individual, keypoint, x or y), and rows of a place, an image, the values."""

    columns: list[tuple[str, str, str]]
    rows: Iterable[tuple[str, str, list[float]]]


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read a file, or all CollectedData files below a folder. Raises UserError, naming the row."""
    files = [source]
    if source.is_dir():
        found = sorted(source.rglob("CollectedData_*"))
        csvs = [path for path in found if path.suffix == ".csv"]
        # A folder has both forms of the same labels.
        twins = {path.with_suffix("") for path in csvs}
        h5s = [p for p in found if p.suffix == ".h5" and p.with_suffix("") not in twins]
        files = sorted([*csvs, *h5s])
        if not files:
            raise invalid(str(source), "files CollectedData_*.csv or .h5 below", None)
    lost = Counter[str]()
    labeled: list[LabeledImage] = []
    bodyparts: dict[str, None] = {}
    for path in files:
        labeled += _images(path, bodyparts, lost)
    category = options.category or "animal"
    skeleton = skeleton_of(tuple(bodyparts), category) if bodyparts else None
    if skeleton is not None and skeleton not in SHIPPED.values():
        skeleton = replace(skeleton, limbs=_limbs(source, skeleton.keypoints))
    files_of = options.images or _project(source, [image.name for image in labeled])
    return pose_set(source, labeled, options, files_of, skeleton, category, left_out(lost))


def _limbs(source: Path, bodyparts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The links of `skeleton` in the project's config.yaml, beside the source or above it.

    None where there is no such file, or none that can be read: labels do not need it.
    """
    folder = source if source.is_dir() else source.parent
    paths = [place / "config.yaml" for place in (folder, *folder.resolve().parents[:3])]
    config: Any = None
    for path in (path for path in paths if path.is_file()):
        with suppress(UserError, ModuleNotFoundError):
            from hrpose.yaml_file import read_yaml

            config = read_yaml(path)
        break
    links = config.get("skeleton") if isinstance(config, dict) else None
    index = {name: at for at, name in enumerate(bodyparts)}
    found: dict[tuple[int, int], None] = {}
    for link in links if isinstance(links, list) else []:
        ends = [index.get(str(name), -1) for name in link] if isinstance(link, list) else []
        if len(ends) == 2 and ends[0] != ends[1] and min(ends) >= 0:
            found[ends[0], ends[1]] = None
    return tuple(found)


def _project(source: Path, names: list[str]) -> ImageFiles:
    """The folder that has the images: beside the file, or up to three above it."""
    beside = images_beside(source)
    folder = source if source.is_dir() else source.parent
    above = [ImageFiles(each) for each in (folder, *folder.resolve().parents[:3])]
    places = [*([beside] if beside else []), *above]
    return next((place for place in places if names and names[0] in place), places[0])


def _images(path: Path, bodyparts: dict[str, None], lost: Counter[str]) -> Iterator[LabeledImage]:
    """The labeled images of a file, whose keypoints are added to `bodyparts` in their order."""
    is_hdf5 = path.suffix.lower() in (".h5", ".hdf5")
    table = _of_hdf5(read_hdf5(path)) if is_hdf5 else _of_csv(path)
    animals = {individual for individual, _, _ in table.columns} - {_SINGLE}
    seen: set[tuple[str, str, str]] = set()
    for column in table.columns:
        if column in seen:
            raise repeated_keypoint(
                f"{path}: {column[0] or 'bodyparts'}", column[1], "use the labels of one scorer"
            )
        seen.add(column)
        if column[0] != _SINGLE or not animals:
            bodyparts[column[1]] = None
    for where, name, values in table.rows:
        persons: dict[str, dict[str, Keypoint]] = {}
        points: dict[tuple[str, str], dict[str, float]] = {}
        for (individual, keypoint, axis), value in zip(table.columns, values, strict=True):
            points.setdefault((individual, keypoint), {})[axis] = value
        for (individual, keypoint), point in points.items():
            x, y = point.get("x", np.nan), point.get("y", np.nan)
            if np.isnan(x) and np.isnan(y):
                continue
            if individual == _SINGLE and animals:
                lost["points of 'single', which belong to no animal"] += 1
                continue
            x, y = number(x, f"{where}: {keypoint}: x"), number(y, f"{where}: {keypoint}: y")
            persons.setdefault(individual, {})[keypoint] = (x, y, 2)
        if not persons:
            lost["images without a labeled keypoint"] += 1
            continue
        labeled = tuple(
            Person(own, where=f"{where}: {individual}".removesuffix(": "))
            for individual, own in persons.items()
        )
        yield LabeledImage(name, labeled, video=str(PurePosixPath(name).parent.name))


def _of_csv(path: Path) -> _Table:
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: dict[str, list[str]] = {}
    try:
        for row in rows:
            if row and row[0] in _LEVELS:
                header[row[0]] = row
            if row and row[0] == "coords":
                break
        if not {"bodyparts", "coords"} <= header.keys():
            found = ", ".join(header) or "none of them"
            raise invalid(f"{path}: line 1", "DeepLabCut's lines scorer, bodyparts, coords", found)
        lead = next((i for i, cell in enumerate(header["coords"][1:], 1) if cell), 0)
        width = len(header["coords"])
        if not lead or any(len(line) != width for line in header.values()):
            raise invalid(f"{path}: line 1", "headers of one length", [*map(len, header.values())])
        individuals = header.get("individuals", [""] * width)
        columns = _columns(
            f"{path}: line {rows.line_num}",
            zip(
                individuals[lead:], header["bodyparts"][lead:], header["coords"][lead:], strict=True
            ),
        )
    except csv.Error as error:
        raise invalid(f"{path}: line {rows.line_num}", "CSV", str(error)) from error
    return _Table(columns, _rows_of_csv(path, rows, lead, width))


def _rows_of_csv(
    path: Path, rows: Any, lead: int, width: int
) -> Iterator[tuple[str, str, list[float]]]:
    try:
        for row in rows:
            where = f"{path}: line {rows.line_num}"
            if not any(row):
                continue
            if len(row) != width:
                raise invalid(where, f"{width} values", len(row))
            values = [
                number(cell.strip(), f"{where}: column {column}") if cell.strip() else np.nan
                for column, cell in enumerate(row[lead:], lead + 1)
            ]
            yield where, image_name("/".join(row[:lead]).strip("/"), f"{where}: image"), values
    except csv.Error as error:
        raise invalid(f"{path}: line {rows.line_num}", "CSV", str(error)) from error


def _of_hdf5(file: Hdf5) -> _Table:
    frames = [name for name in file.groups() if file.attribute(name, "pandas_type") == "frame"]
    if len(frames) != 1:
        found = f"{len(frames)} frames"
        if any(file.attribute(name, "pandas_type") for name in file.groups()):
            found = "a table of another form; use the CSV file"
        raise file.error("/", "one frame of labels, as DeepLabCut saves it", found)
    group = frames[0]
    names = _axis(file, group, "axis1")
    places = [f"{file.path}: row {row}" for row in range(1, len(names) + 1)]
    images = [
        image_name("/".join(name), f"{where}: image")
        for name, where in zip(names, places, strict=True)
    ]
    columns: list[tuple[str, ...]] = []
    blocks: list[NDArray[np.float64]] = []
    count = file.attribute(group, "nblocks")
    for block in range(count if isinstance(count, int) and 0 < count < 100 else 0):
        items = _axis(file, group, f"block{block}_items")
        values = file.numbers(f"{group}/block{block}_values", 2).astype(np.float64)
        # PyTables has it either way.
        values = (
            values if file.attribute(f"{group}/block{block}_values", "transposed") else values.T
        )
        if values.shape != (len(names), len(items)):
            expected = f"{len(names)} x {len(items)} numbers"
            raise file.error(f"{group}/block{block}_values", expected, values.shape)
        columns += items
        blocks.append(values)
    if not columns or not all(len(column) in (3, 4) for column in columns):
        raise file.error(group, "columns of scorer, individual, keypoint and coordinate", None)
    parts = ((c[1] if len(c) == 4 else "", c[-2], c[-1]) for c in columns)
    rows = zip(places, images, np.concatenate(blocks, axis=1).tolist(), strict=True)
    return _Table(_columns(f"{file.path}: {group}", parts), rows)


def _axis(file: Hdf5, group: str, axis: str) -> list[tuple[str, ...]]:
    """The names along an axis, each a tuple with one text for each level."""
    if f"{group}/{axis}" in file:
        if file.attribute(f"{group}/{axis}", "kind") in ("integer", "float"):
            raise file.error(axis, "the names of labeled images", "numbers of frames: predictions")
        return [(name,) for name in file.texts(f"{group}/{axis}")]
    levels = []
    for level in range(len(_LEVELS)):
        if f"{group}/{axis}_label{level}" not in file:
            break
        texts = file.texts(f"{group}/{axis}_level{level}")
        codes = file.numbers(f"{group}/{axis}_label{level}")
        if codes.dtype.kind not in "iu" or ((codes < 0) | (codes >= len(texts))).any():
            raise file.error(
                f"{axis}_label{level}", f"numbers from 0 to {len(texts) - 1}", "others"
            )
        levels.append([texts[code] for code in codes.tolist()])
    if not levels or len({len(level) for level in levels}) != 1:
        raise file.error(axis, "names", None)
    return list(zip(*levels, strict=True))


def _columns(where: str, columns: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    found = []
    for individual, keypoint, axis in columns:
        if axis == "likelihood":
            raise UserError(
                f"{where}: expected labels, found predictions with a likelihood; convert "
                "CollectedData_NAME.csv or .h5",
                code="annotations-invalid",
            )
        if axis not in ("x", "y"):
            raise invalid(f"{where}: coords", "x and y", axis)
        found.append((individual.strip(), keypoint_name(keypoint, f"{where}: bodyparts"), axis))
    return found


# The name of what labeled, by which DeepLabCut's own files are named, and their table.
SCORER = "DLC_hrpose"
_KEY = "df_with_missing"
_COORDS = ("x", "y", "likelihood")


def csv_lines(
    bodyparts: Sequence[str], individuals: Sequence[str], keypoints: NDArray[np.float32]
) -> Iterator[str]:
    """The lines of predictions on a video, as DeepLabCut has them.

    `keypoints` (t, n, k, 3) are x, y and likelihood, NaN where missing. A single individual has no
    level of its own.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = list(zip(*_predicted(bodyparts, individuals), strict=True))
    names = _levels(individuals)
    rows: Iterator[Sequence[object]] = chain(
        ([name, *column] for name, column in zip(names, columns, strict=True)),
        (
            [frame, *("" if value != value else value for value in row)]
            for frame, row in enumerate(_rounded(keypoints).tolist())
        ),
    )
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def h5(
    bodyparts: Sequence[str], individuals: Sequence[str], keypoints: NDArray[np.float32]
) -> bytes:
    """The same predictions as an HDF5 file: a data frame in the "fixed" format of pandas.

    Its layout is written with h5py, without PyTables, and has nothing that is pickled. Raises
    UserError without h5py.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing("dlc", error, "hrpose[hdf5]") from error
    levels, names = (
        list(zip(*_predicted(bodyparts, individuals), strict=True)),
        _levels(individuals),
    )
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        _describe(file, CLASS="GROUP", TITLE="", VERSION="1.0", PYTABLES_FORMAT_VERSION="2.1")
        frame = file.create_group(_KEY)
        _describe(
            frame, CLASS="GROUP", TITLE="", VERSION="1.0", encoding="UTF-8", errors="strict",
            pandas_type="frame", ndim=2, nblocks=1, axis1_variety="regular",
        )  # fmt: skip
        for axis in ("axis0", "block0_items"):
            _describe(frame, **{f"{axis}_variety": "multi"}, **{f"{axis}_nlevels": len(names)})
            for number_, (name, level) in enumerate(zip(names, levels, strict=True)):
                unique = list(dict.fromkeys(level))
                codes = {text: code for code, text in enumerate(unique)}
                texts = np.array([text.encode() for text in unique])
                about = {
                    "kind": "string",
                    "name": name,
                    "nan_rep": "nan",
                    f"{axis}_name{name}": name,
                }
                _array(frame, f"{axis}_level{number_}", texts, **about)
                label = np.array([codes[text] for text in level], np.int32)
                _array(frame, f"{axis}_label{number_}", label)
        _array(frame, "axis1", np.arange(len(keypoints)), kind="integer")
        _array(frame, "block0_values", _rounded(keypoints))
    return content.getvalue()


def _levels(individuals: Sequence[str]) -> tuple[str, ...]:
    return _LEVELS if len(individuals) > 1 else (_LEVELS[0], *_LEVELS[2:])


def _predicted(bodyparts: Sequence[str], individuals: Sequence[str]) -> list[tuple[str, ...]]:
    """The columns, as one text for each level."""
    several = len(individuals) > 1
    return [
        (SCORER, *((individual,) if several else ()), bodypart, coord)
        for individual, bodypart, coord in product(individuals, bodyparts, _COORDS)
    ]


def _rounded(keypoints: NDArray[np.float32]) -> NDArray[np.float64]:
    """(t, n k 3) the rows, without the digits that float32 adds."""
    return keypoints.astype(np.float64).round(4).reshape(len(keypoints), -1)


def _describe(entry: Any, **about: str | int) -> None:
    """Attributes as PyTables writes them: 64-bit integers, and texts of fixed length in UTF-8."""
    from h5py import string_dtype

    for key, value in about.items():
        if isinstance(value, int):
            entry.attrs[key] = np.int64(value)
        else:
            content = value.encode()
            entry.attrs.create(key, content, dtype=string_dtype("utf-8", len(content) or 1))


def _array(group: Any, key: str, values: NDArray[Any], **about: str) -> None:
    entry = group.create_dataset(key, data=values)
    _describe(entry, CLASS="ARRAY", FLAVOR="numpy", TITLE="", VERSION="2.4", transposed=1, **about)
