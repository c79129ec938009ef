"""Files that only a forge reads: checked here, for nobody sees there before it is too late."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import hrpose
from conftest import ROOT

GITHUB = ROOT / ".github"
pytestmark = pytest.mark.skipif(not GITHUB.is_dir(), reason="an sdist has no .github")
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [f for f in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if f.stem != "config"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_yaml_file_can_be_read() -> None:
    files = [*GITHUB.rglob("*.yml"), ROOT / "CITATION.cff"]
    assert len(files) >= 6
    for file in files:
        assert isinstance(read(file), dict), file


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_whole_and_has_no_more_rights_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow[True]  # YAML 1.1 takes the key `on` for a boolean.
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert job["timeout-minutes"] <= 60
        assert {job.get("needs", name)} <= workflow["jobs"].keys()
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+)", step["uses"])
            else:
                # What a stranger can write (a branch, a title) must not become shell.
                assert "${{" not in step["run"]
                assert set(re.findall(r"\bmake (\w+)", step["run"])) <= targets
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_three_systems_run_what_must_pass() -> None:
    jobs = read(GITHUB / "workflows" / "check.yml")["jobs"]
    systems = {row["os"] for row in jobs["unix"]["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu-latest", "macos-latest"}
    assert ".ci/run" in [step.get("run") for step in jobs["unix"]["steps"]]
    windows = [step["run"] for step in jobs["windows"]["steps"] if "run" in step]
    # The same tests in the same way, on all of them.
    makefile = (ROOT / "Makefile").read_text("utf-8")
    tests = re.search(r"^test:.*\n\t.*\$\(BIN\)/(pytest .*)$", makefile, re.MULTILINE)
    assert tests
    assert tests[1] in windows
    assert "mypy" in windows


def test_both_bounds_of_the_dependencies_are_tested() -> None:
    bounds = read(GITHUB / "workflows" / "check.yml")["jobs"]["bounds"]
    assert [row["target"] for row in bounds["strategy"]["matrix"]["include"]] == [
        "lowest",
        "highest",
    ]
    assert bounds["steps"][-1]["run"] == 'make "$TARGET"'


def test_only_the_step_that_publishes_may_ask_for_an_identity() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    asking = {name for name, job in jobs.items() if "id-token" in job.get("permissions", {})}
    assert asking == {"publish"}
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["needs"] == "build"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_what_can_be_answered(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert all(part["type"] in ("input", "textarea", "dropdown", "checkboxes") for part in asked)
    assert all(part["attributes"]["label"] for part in asked)
    assert len({part["id"] for part in asked}) == len(asked)


def test_the_citation_is_of_this_version_and_cites_the_paper() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == hrpose.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["doi"] == "10.1109/CVPR.2019.00584"
