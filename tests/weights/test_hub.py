"""Weights on the Hugging Face Hub, against a stand-in that speaks HTTP on this machine."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import hrpose
from conftest import ROOT
from hrpose.cli.main import app
from hrpose.metadata import Metadata
from hrpose.skeletons import COCO_17
from hrpose.weights import find
from hrpose.weights.hub import HubName, model_card
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

from .hub_server import Hub

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
EXAMPLE = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()
        server.shutdown()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_weights(tmp_path / "tiny.onnx", replace(METADATA, scores={"AP on x": 0.25}))


def test_what_is_pushed_comes_back_the_same(hub: Hub, weights: Path) -> None:
    name = hrpose.push_to_hub(weights, "ann/tiny")
    assert hub.private == {"ann/tiny": True}
    (_, files) = hub.repositories["ann/tiny"][-1]
    assert sorted(files) == ["README.md", "metadata.json", "model.onnx"]
    assert files["model.onnx"] == weights.read_bytes()
    assert Metadata.from_json(files["metadata.json"].decode()).scores == {"AP on x": 0.25}

    ours = hrpose.load(weights, detector="none")(EXAMPLE)
    for theirs in (
        hrpose.from_pretrained("ann/tiny", detector="none"),
        hrpose.load(name, detector="none"),
    ):
        np.testing.assert_array_equal(theirs(EXAMPLE).keypoints, ours.keypoints)
    assert {token for method, _, token in hub.requests if method == "POST"} == {"Bearer hf_test"}


def test_a_revision_pins_the_weights(hub: Hub, weights: Path, tmp_path: Path) -> None:
    first = hrpose.push_to_hub(weights, "ann/tiny")
    hrpose.push_to_hub(write_tiny_weights(weights, replace(METADATA, name="newer")), "ann/tiny")
    assert hrpose.from_pretrained("ann/tiny").metadata.name == "newer"
    pinned = first.partition("@")[2]
    assert hrpose.from_pretrained("ann/tiny", revision=pinned).metadata.name == "tiny"
    # A commit never changes, so nobody is asked again.
    hub.requests.clear()
    assert hrpose.load(first).metadata.name == "tiny"
    assert hub.requests == []


def test_what_is_in_the_cache_works_without_a_network(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hrpose.push_to_hub(weights, "ann/tiny")
    file = find("hf:ann/tiny")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert find("hf:ann/tiny") == file
    with refused("download-failed", "hf:ann/other"):
        find("hf:ann/other")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "hf:ann/nothing",
        "hf:ann/tiny@v9",
        "hf:ann/pickle",
        "hf:ann",
        "hf:ann/../../etc",
        "hf:ann/tiny@../main",
    ],
)
def test_unknown_weights_are_refused(hub: Hub, weights: Path, name: str) -> None:
    hub.commit("ann/tiny", {"model.onnx": weights.read_bytes()})
    hub.commit("ann/pickle", {"pytorch_model.bin": b"\x80\x04"})
    with refused("weights-unknown", name):
        find(name)
    assert not any("pytorch_model" in path for _, path, _ in hub.requests)


def test_a_file_too_large_is_not_fetched(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hrpose.push_to_hub(weights, "ann/tiny")
    monkeypatch.setattr("hrpose.weights.hub.MAX_MODEL_BYTES", weights.stat().st_size - 1)
    with refused("file-too-large", "hf:ann/tiny", "model.onnx"):
        find("hf:ann/tiny")
    assert not any(method == "GET" for method, path, _ in hub.requests if "/resolve/" in path)


def test_a_hub_that_cannot_be_reached(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with refused("download-failed", "hf:ann/tiny"):
        hrpose.push_to_hub(weights, "ann/tiny")


def test_other_weights_are_not_pushed(hub: Hub, tmp_path: Path) -> None:
    foreign = write_tiny_weights(tmp_path / "foreign.onnx", None)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 20)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"\x80\x04.")
    for files, code in (
        ([foreign], "metadata-missing"),
        ([broken], "weights-damaged"),
        ([checkpoint], "option-invalid"),
        ([foreign, foreign], "option-invalid"),
        ([], "option-invalid"),
        ([tmp_path / "none.onnx"], "file-unreadable"),
    ):
        with refused(code):
            hrpose.push_to_hub(files, "ann/tiny")
    assert hub.requests == []


def test_both_files_must_be_the_same_weights(hub: Hub, weights: Path, tmp_path: Path) -> None:
    def safetensors(metadata: Metadata) -> Path:
        head = json.dumps({"__metadata__": {Metadata.keys[0]: metadata.to_json()}}).encode()
        path = tmp_path / "tiny.safetensors"
        path.write_bytes(len(head).to_bytes(8, "little") + head)
        return path

    with refused("weights-unsuitable", str(weights)):
        hrpose.push_to_hub([weights, safetensors(METADATA)], "ann/tiny")
    same = safetensors(replace(METADATA, scores={"AP on x": 0.25}))
    hrpose.push_to_hub([weights, same], "ann/tiny")
    assert {"model.onnx", "model.safetensors"} < hub.repositories["ann/tiny"][-1][1].keys()


def test_the_command_line_pushes_and_predicts(hub: Hub, weights: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["weights", "push", str(weights), "--to", "ann/tiny", "--public"])
    assert done.exit_code == 0, done.output
    assert hub.private == {"ann/tiny": False}
    oid = hub.repositories["ann/tiny"][-1][0]
    assert f"hf:ann/tiny@{oid}" in done.output
    asked = ["predict", str(EXAMPLE), "--weights", f"hf:ann/tiny@{oid}", "--detector", "none"]
    done = run(app, [*asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "poses.json").is_file()


def test_a_card_says_what_the_metadata_says_and_nothing_breaks_out_of_it() -> None:
    metadata = replace(
        METADATA,
        name="# tiny <script>",
        training_data="a\n---\n# heading | cell",
        license="research only",
        scores={"AP | <b>": 0.5},
    )
    card = model_card(metadata, "ann/tiny", ("model.onnx",))
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "hrpose"
    assert "onnx" in yaml.safe_load(head)["tags"]
    assert 'hrpose.from_pretrained("ann/tiny")' in body
    assert "research only" in body
    assert "<script>" not in card
    assert "<b>" not in card
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        "# tiny &lt;script>",
        "## Metrics",
        "## Keypoints",
    ]
    assert "0.500" in body


def test_names_come_back_as_they_were_said() -> None:
    for name in ("hf:ann/tiny", "hf:ann/tiny@v1.0", "hf:ann/tiny@refs/pr/1"):
        assert str(HubName.parse(name)) == name
    assert HubName.parse("ann/tiny") == HubName("ann/tiny", None)
    # On Windows a recipe's path has the other slash.
    assert HubName.parse("hf:ann\\tiny") == HubName("ann/tiny", None)


def test_networks_go_to_the_hub_and_come_back(hub: Hub) -> None:
    """By the methods of the Hub's own library; hrpose's read what these wrote."""
    torch = pytest.importorskip("torch")
    network = hrpose.HubHRNet("w16-small", 17)
    network.metadata = replace(METADATA, network="w16-small", skeleton=COCO_17)
    network.push_to_hub("ann/network", private=True)
    (_, files) = hub.repositories["ann/network"][-1]
    assert {"config.json", "model.safetensors", "README.md"} <= files.keys()
    assert b'from_pretrained("ann/network")' in files["README.md"]
    found = hrpose.HubHRNet.from_pretrained("ann/network")
    assert found.metadata == network.metadata
    for key, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key
    assert hrpose.from_pretrained("ann/network", detector="none").metadata == network.metadata
    hrpose.push_to_hub(find("w16-small"), "ann/exported")  # ONNX alone
    assert hrpose.HubHRNet.from_pretrained("ann/exported").spec.name == "w16-small"
    with refused("weights-unknown", "ann/nothing"):
        hrpose.HubHRNet.from_pretrained("ann/nothing")
