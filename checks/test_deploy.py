"""The container, its manifest and the conda recipe agree with the package and with one another."""

import re
import tomllib
from typing import Any

import yaml

from conftest import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")


def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8"))
    return {document["kind"]: document for document in documents}


def test_pods_have_no_more_rights_than_they_need() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    # The server answers what it took for at most 90 seconds.
    assert pod["terminationGracePeriodSeconds"] > 90
    # The only place that can be written to.
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in DOCKERFILE


def test_the_probes_ask_what_the_server_answers() -> None:
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    routes = (ROOT / "src" / "hrpose" / "serve" / "app.py").read_text("utf-8")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert f'"{asked["path"]}"' in routes
        assert asked["port"] == container["ports"][0]["name"]
    service = manifests()["Service"]["spec"]
    labels = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_image_copies_what_is_there_and_is_not_root() -> None:
    for line in re.findall(r"^COPY (?!--)(.*)", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    wheel, *stages = DOCKERFILE.split("\nFROM ")[1:]
    assert "pip wheel" in wheel
    assert [stage.splitlines()[0].rpartition(" AS ")[2] for stage in stages] == [
        "cpu", "cuda"
    ]  # fmt: skip
    for stage in stages:
        assert "USER 10001:10001" in stage
        assert "HEALTHCHECK" in stage


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    text = (ROOT / "deploy" / "conda-forge" / "recipe.yaml").read_text("utf-8")
    recipe = yaml.safe_load(text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {row.replace(" ", "") for row in recipe["requirements"]["run"][1:]}
    names = {"opencv-python-headless": "py-opencv"}
    needed = set()
    for row in project["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(.*)", row).groups()  # type: ignore[union-attr]
        # PyPI's opencv counts its builds in a fourth number, which conda-forge does not have.
        bounds = re.sub(r"(\d+\.\d+)\.\d+\.\d+", r"\1", bounds)
        needed.add(names.get(name, name) + bounds)
    assert asked == needed
