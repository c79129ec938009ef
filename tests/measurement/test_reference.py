"""`hrpose agreement`: tables of both forms are paired by frame, time or file; bad ones named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.measurement.agreement import compare_measures
from refusals import check_refusal, refused

RATE = 10


def angle(time: Any) -> Any:
    return 60 + 30 * np.sin(time)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two persons' knees in a clip of ten images a second, as `hrpose measure` writes them: 2
    degrees too much for one, 4 too much for the other; once without a value.
    """
    lines = ["file,frame,time,person,measure,value,low,high,unit,flag"]
    for person, bias in ((1, 2), (7, 4)):
        for frame in range(60):
            value = "" if frame == 5 else f"{angle(frame / RATE) + bias:.4f}"
            lines.append(f"a.mp4,{frame},{frame / RATE},{person},knee,{value},,,deg,ok")
            lines.append(f"a.mp4,{frame},{frame / RATE},{person},hip,1,,,deg,ok")
    return write(tmp_path / "measures.csv", "\n".join(lines) + "\n")


def test_a_column_for_each_measure_at_other_times(measured: Path, tmp_path: Path) -> None:
    """A reference of 100 images a second, which begins later."""
    times = np.arange(1, 5, 0.01)
    text = "time,knee\n" + "".join(f"{t:.3f},{angle(t):.4f}\n" for t in times)
    wide = write(tmp_path / "markers.csv", text)
    (found,) = compare_measures(measured, wide, 3.0, person="7")
    assert found.measure == "knee"
    assert found.agreement.pairs == 40
    assert found.agreement.bias.value == pytest.approx(4, abs=0.01)
    assert found.agreement.deviation < 0.01
    assert found.agreement.big_errors.value == 1
    with refused("reference-invalid", "`person`", "2 series of `knee`"):
        compare_measures(measured, wide, 3.0)
    with refused("reference-invalid", "person 3"):
        compare_measures(measured, wide, 3.0, person="3")


def test_rows_by_frame_and_person(measured: Path, tmp_path: Path) -> None:
    rows = [(f, p) for p in (1, 7) for f in range(0, 60, 2)]
    text = "file,frame,person,measure,value\n" + "".join(
        f"a.mp4,{f},{p},knee,{angle(f / RATE):.4f}\n" for f, p in rows
    )
    (found,) = compare_measures(measured, write(tmp_path / "rows.csv", text), 3.0)
    assert found.agreement.pairs == 60
    assert found.agreement.bias.value == pytest.approx(3, abs=0.001)
    assert found.agreement.big_errors.value == 0.5


def test_images_are_paired_by_file(tmp_path: Path) -> None:
    values = {"a.jpg": 10.0, "b.jpg": 20.0, "c.jpg": 35.0}
    rows = "".join(f"{name},,,0,knee,{value}\n" for name, value in values.items())
    mine = write(tmp_path / "m.csv", "file,frame,time,person,measure,value\n" + rows)
    text = "\ufefffile,knee\n" + "".join(f"{n},{v + 1}\n" for n, v in values.items())
    (found,) = compare_measures(mine, write(tmp_path / "r.csv", text + "d.jpg,3\n"), 5.0)
    assert found.agreement.bias.value == -1
    assert found.agreement.icc_3_1.value == pytest.approx(1)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["agreement", *map(str, arguments)])


def test_the_command_and_its_page(measured: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "frame,knee\n" + "".join(
        f"{f},{angle(f / RATE) + rng.normal(0, 2):.3f}\n" for f in range(60)
    )
    reference = write(tmp_path / "<gold>.csv", text)
    out = tmp_path / "agreement.html"
    done = run(measured, reference, "--person", 1, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    knee = json.loads(done.stdout)["measures"]["knee"]
    assert knee["pairs"] == 59
    assert knee["bias"]["low"] < 2 < knee["bias"]["high"]
    assert knee["icc_2_1"]["value"] < knee["icc_3_1"]["value"]
    page = out.read_text(encoding="utf-8")
    assert page.count('class="point"') == 59
    assert "<gold>" not in page
    assert "limits of agreement" in run(measured, reference, "--person", 1, "--out", out).output


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("frame,knee\n1,x\n", ("line 2", "`knee`", "'x'")),
        ("frame,elbow\n1,2\n", ("measures of", "knee", "elbow")),
        ("knee\n1\n", ("columns", "knee")),
        ("frame,knee\n", ("no rows",)),
        ("frame,time\n1,2\n", ("columns", "frame, time")),
        ("frame,knee\n100,1\n101,2\n", ("at least 3", "`knee`")),
        ("", ("no rows",)),
    ],
)
def test_bad_references_are_refused(
    measured: Path, tmp_path: Path, text: str, mentions: tuple[str, ...]
) -> None:
    reference = write(tmp_path / "reference.csv", text)
    done = run(measured, reference, "--person", 1, "--out", tmp_path / "page.html")
    check_refusal(done, "reference-invalid", "reference.csv", *mentions)
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\x00")
    done = run(measured, tmp_path / "image.csv", "--out", tmp_path / "page.html")
    check_refusal(done, "reference-invalid", "image.csv")
    assert not (tmp_path / "page.html").exists()
