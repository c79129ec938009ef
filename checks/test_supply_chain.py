"""Pinned packages and their hashes agree, and name no index."""

import re
import tomllib

import yaml
from tools.supply_chain import covers

from .pages import ROOT

PINS = dict(
    line.lower().replace("_", "-").split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line
)


def test_hashes_are_of_the_pinned_versions_of_the_base_install() -> None:
    first, *lines = (ROOT / "hashes.txt").read_text("utf-8").splitlines()
    assert first.startswith("# The base install on ")
    found = {}
    for line in lines:
        form = re.fullmatch(r"([a-z0-9.-]+)==([\w.]+) --hash=sha256:[0-9a-f]{64}", line)
        assert form, line
        found[form[1]] = form[2]
    assert {name: PINS[name] for name in found} == found
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[>=\[]", text)[0] for text in project["dependencies"]}
    assert names <= found.keys()


def test_hashes_of_another_system_are_not_used(tmp_path) -> None:  # type: ignore[no-untyped-def]
    other = tmp_path / "hashes.txt"
    other.write_text(
        "# The base install on Plan9 vax with Python 2.7; `make lock` writes this file.\n"
    )
    assert not covers(other)
    assert not covers(tmp_path / "none.txt")


def test_pre_commit_runs_the_pinned_versions() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert all(repo["repo"] == "local" for repo in config["repos"])
    needed = {text for hook in hooks for text in hook["additional_dependencies"]}
    assert needed == {f"{name}=={PINS[name]}" for name in ("ruff", "typos")}
