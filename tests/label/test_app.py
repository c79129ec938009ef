"""The server of labels: what is saved, what is refused, and what it exports."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrpose.data.coco import read_annotations
from hrpose.label.project import Project
from refusals import refused

from .conftest import Labels

POINTS = [[10.5, 20.25, 2], [30, 40, 1], [0, 0, 0]]


def person(name: str = "person-1", image: int = 1, version: int = 0, **more: Any) -> dict[str, Any]:
    label = more.pop("label", {"box": None, "keypoints": POINTS})
    change = {"id": f"change-{name}-{version}", "image": image, "version": version}
    return {**change, "person": name, "label": label, **more}


def exported(labels: Labels) -> Any:
    """`annotations.json`, which is written a moment after a change."""
    path = labels.project.folder / "annotations.json"
    wanted = labels.project.coco()
    end = time.monotonic() + 10
    while not path.is_file() or json.loads(path.read_text("utf-8")) != json.loads(
        json.dumps(wanted)
    ):
        assert time.monotonic() < end
        time.sleep(0.02)
    return json.loads(path.read_text("utf-8"))


def test_every_image_is_there_once_with_its_size(labels: Labels) -> None:
    images = labels.get("images")["images"]
    assert sorted(image["name"] for image in images) == ["0.jpg", "1.jpg", "2.jpg", "more/10.jpg"]
    (last,) = [image["id"] for image in images if image["name"] == "more/10.jpg"]
    image = labels.get(f"images/{last}")
    assert (image["width"], image["height"]) == (128, 64)
    assert image["suggestions"] == []
    file = labels("GET", f"/v1/label/images/{last}/file")
    assert file.content == (labels.project.root / "more/10.jpg").read_bytes()
    assert file.headers["content-type"] == "image/jpeg"
    assert labels("GET", f"/v1/label/images/{last}/thumbnail").status_code == 200


def test_labels_are_saved_and_exported_as_coco(labels: Labels) -> None:
    labels.get("images/1")  # its size is known from here on
    answer = labels.change(person(), {"id": "done-0001", "image": 1, "version": 0, "done": True})
    assert answer.status_code == 200
    assert [row["version"] for row in answer.json()["persons"]] == [1]
    document = exported(labels)
    (image,), (annotation,) = document["images"], document["annotations"]
    assert (image["file_name"], image["labeled"]) == ("0.jpg", True)
    assert annotation["keypoints"] == [10.5, 20.25, 2, 30, 40, 1, 0, 0, 0]
    assert annotation["num_keypoints"] == 2
    assert annotation["bbox_guessed"] is True
    # The package's own reader takes the file, with the skeleton that is written beside it.
    path = labels.project.folder / "annotations.json"
    assert read_annotations(path).persons().keypoints.shape == (1, 3, 3)
    assert (labels.project.folder / "skeleton.yaml").is_file()
    assert json.loads(labels("GET", "/v1/label/annotations.json").text) == document


def test_two_tabs_never_overwrite_each_other(labels: Labels) -> None:
    labels.change(person())
    theirs = {"box": None, "keypoints": [[1, 2, 2], None, None]}
    assert labels.change(person(version=1, label=theirs), by="bob").status_code == 200
    mine = person(version=1, label=None)
    answer = labels.change({**mine, "id": "change-mine-1"})
    assert answer.status_code == 409
    said = answer.json()
    assert said["error"] == "conflict"
    (row,) = said["persons"]
    assert (row["by"], row["version"], row["label"]) == ("bob", 2, theirs)
    # After a look at theirs, the change is made from it.
    assert labels.change({**mine, "id": "change-mine-2", "version": 2}).status_code == 200
    assert labels.get("images/1")["persons"] == []


def test_news_name_the_images_that_others_changed(labels: Labels) -> None:
    before = labels.get("news")["revision"]
    labels.change(person(image=2))
    news = labels.get(f"news?after={before}")
    assert [(image["id"], image["count"]) for image in news["images"]] == [(2, 1)]
    assert labels.get(f"news?after={news['revision']}")["images"] == []


@pytest.mark.parametrize(
    ("status", "code", "change"),
    [
        (404, "not_found", person(image=99)),
        (404, "not_found", person(version=3)),
        (422, "bad_request", person(label={"box": None, "keypoints": POINTS[:2]})),
        (422, "bad_request", person(label={"box": None, "keypoints": [[1, 2, 7], None, None]})),
        (422, "bad_request", person(label={"box": [1, 2, 0, 4], "keypoints": POINTS})),
        (422, "bad_request", person(name="../../etc")),
        (422, "bad_request", person(more=1)),
    ],
)
def test_odd_changes_are_refused_and_change_nothing(
    labels: Labels, status: int, code: str, change: dict[str, Any]
) -> None:
    answer = labels.change(person(name="person-0"), change)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert labels.project.store.persons() == []


def test_other_sites_hosts_and_wrong_tokens_are_refused(opened: Callable[..., Labels]) -> None:
    labels = opened(token="secret")
    body = json.dumps({"by": "", "changes": [person()]})
    json_type = {"content-type": "application/json"}
    owner = {"authorization": "Bearer secret"}

    def sent(headers: dict[str, str]) -> int:
        return labels("POST", "/v1/label/changes", content=body, headers=headers).status_code

    assert sent({**json_type, **owner}) == 200
    assert sent(json_type) == 401
    assert sent({**json_type, "authorization": "Bearer other"}) == 401
    assert sent({**json_type, **owner, "origin": "http://evil.example"}) == 403
    assert sent({**json_type, **owner, "sec-fetch-site": "cross-site"}) == 403
    assert sent({**json_type, **owner, "host": "evil.example"}) == 421
    # What a page of another site could send without asking first.
    assert sent({**owner, "content-type": "text/plain"}) == 415
    for path in ("project", "images", "images/1/file", "annotations.json", "news"):
        assert labels("GET", f"/v1/label/{path}").status_code == 401
    assert labels("GET", "/").status_code == 200
    policy = labels("GET", "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "path", ["../conftest.py", "%2e%2e/app.py", "..%2fstore.py", "/etc/passwd"]
)
def test_only_the_page_s_files_are_sent(labels: Labels, path: str) -> None:
    answer = labels("GET", f"/label/{path}")
    assert answer.status_code == 404 or answer.url.path == "/"


def test_names_in_the_file_of_labels_stay_in_the_folder(labels: Labels) -> None:
    (labels.project.root.parent / "secret.jpg").write_bytes(b"secret")
    labels.project.store.add_images([("../secret.jpg", "")])
    labels.project.present.add("../secret.jpg")
    (row,) = [row for row in labels.project.store.images() if "secret" in row.name]
    answer = labels("GET", f"/v1/label/images/{row.id}/file")
    assert (answer.status_code, answer.json()["cause"]) == (422, "annotations-invalid")


def test_only_the_project_s_own_folder_is_written(labels: Labels) -> None:
    before = {path for path in labels.project.root.rglob("*") if "hrpose-labels" not in str(path)}
    labels.get("images/1")
    labels.change(person())
    exported(labels)
    after = {path for path in labels.project.root.rglob("*") if "hrpose-labels" not in str(path)}
    assert before == after


def test_the_skeleton_is_kept_and_another_is_refused(
    opened: Callable[..., Labels], folder: Path
) -> None:
    labels = opened()
    with refused("folder-locked"):
        Project(folder)
    labels.change(person())
    labels.close()
    with refused("keypoints-differ"):
        Project(folder, "coco-17")
    again = Project(folder)
    assert again.skeleton.keypoints == ("nose", "left_ear", "right_ear")
    assert len(again.store.persons()) == 1
    again.close()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with refused("images-missing"):
        Project(tmp_path)
    assert not (tmp_path / "hrpose-labels").exists()


def test_findings_are_repaired_or_remembered_as_right(labels: Labels) -> None:
    far = {"box": None, "keypoints": [[10, 20, 2], [30, 40, 2], [400, 40, 2]]}
    twin = {"box": None, "keypoints": [[10, 20, 2], [30, 40, 2], [401, 40, 2]]}
    labels.change(person(label=far), person(name="person-2", label=twin))
    found = {
        (each["kind"], each["person"]): each for each in labels.get("images/1/findings")["findings"]
    }
    outside = found["keypoint-outside-image", "person-1"]
    assert outside["keypoints"] == ["right_ear"]
    assert outside["repair"]["keypoints"] == [[10, 20, 2], [30, 40, 2], [400, 40, 0]]
    assert found["duplicate-person", "person-2"]["repair"] is None
    labels("POST", "/v1/label/images/1/findings", json={"by": "ann", "key": outside["key"]})
    kinds = [each["key"] for each in labels.get("images/1/findings")["findings"]]
    assert outside["key"] not in kinds
    assert len(kinds) == len(found) - 1
