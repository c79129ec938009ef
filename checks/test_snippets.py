"""Python of the documentation runs, YAML is what the commands read, JSON is JSON."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from clips import times, write_clip
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.image import read_image
from hrpose.training.recipe import Recipe
from hrpose.yaml_file import checked

from .pages import PAGES, ROOT, Block, blocks, name

# Packages that examples may use and that are not installed for the tests: such blocks are compiled.
ELSEWHERE = ("fiftyone", "supervision", "huggingface_hub", "gradio", "mlflow", "wandb", "ray",
             "movement")  # fmt: skip

WITH_PYTHON = [page for page in PAGES if any(b.language == "python" for b in blocks(page))]


def of(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that examples speak of."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for image in ("photo.jpg", "group.jpg"):
        (tmp_path / image).symlink_to(ROOT / "examples" / "astronaut.jpg")
    image = read_image(ROOT / "examples" / "astronaut.jpg")[::4, ::4]
    write_clip(tmp_path / "clip.mp4", [image] * 3, times(3))
    (tmp_path / "w16-small.onnx").symlink_to(ROOT / "src" / "hrpose" / "weights" / "w16-small.onnx")
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["predict", "photo.jpg", "clip.mp4", "--save", "coco"])
    assert ran.exit_code == 0, ran.output
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_runs(page: Path, desk: Path) -> None:
    # One page is read from top to bottom, so its blocks share their names.
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.language != "python":
            continue
        code = compile(block.text, str(block), "exec")
        if not any(f"import {package}" in block.text or f"from {package}" in block.text
                   for package in ELSEWHERE):  # fmt: skip
            exec(code, names)
    assert os.getcwd() == str(desk)


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_what_is_read(block: Block) -> None:
    from hrpose.data.skeleton_file import SkeletonFile

    found = yaml.safe_load(block.text)
    skeleton = set(found) <= set(SkeletonFile.model_fields)
    if skeleton:
        try:
            checked(dict(found), (), SkeletonFile, block)
            return
        except UserError:
            pass
    if skeleton or set(found) & set(Recipe.model_fields):
        base = yaml.safe_load((ROOT / "recipes" / "synthetic.yaml").read_text())
        for key, value in found.items():
            both = isinstance(value, dict) and isinstance(base.get(key), dict)
            base[key] = {**base[key], **value} if both else value
        checked(base, (), Recipe, block)


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)
