"""The same on a Ray cluster of this machine: actors are killed, and the first process too."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import hrpose
from batch_workers import BATCH, begin, descendants, results, wait_until, write_images
from hrpose.batch.engines import _capacity
from hrpose.batch.worker import Choices, Opening
from refusals import refused
from tiny_weights import write_tiny_weights

# Who joins a cluster that Ray secures has to say so.
TOKENS = {"RAY_AUTH_MODE": "token"}
# Two machines more, of one core each; with every line of its input one of them is lost.
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print(len(nodes), flush=True)
cluster.shutdown()
"""
CLUSTER = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[int, str]]:
    """The process that holds a cluster, and its address."""
    pytest.importorskip("ray")
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **TOKENS},
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        address = holder.stdout.readline().strip()
        if not address:
            pytest.skip("Ray did not start in the seconds it gives itself: the machine is too busy")
        yield holder.pid, address
        holder.stdin.close()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_actors_leave_the_same_table(
    tmp_path: Path, cluster: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL and SIGTERM for the first process, SIGKILL twice for an actor."""
    holder, address = cluster
    for key, value in TOKENS.items():
        monkeypatch.setenv(key, value)
    broken = write_images(tmp_path / "images", 120, (640, 480))
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    out = tmp_path / "out"
    command = [
        *BATCH, str(tmp_path / "images"), "--engine", "ray", "--address", address,
        "--workers", "1", "--partition", "2", "--weights", str(weights), "--detector", "none",
        "--out", str(out),
    ]  # fmt: skip

    def done() -> int:
        return len(list((out / "poses").glob("part-*.parquet")))

    def actors() -> list[int]:
        return [pid for pid, line in descendants(holder).items() if line.startswith("ray::_Actor")]

    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        before = done()
        first = begin(command)
        wait_until(lambda before=before: done() >= before + 3, first)  # type: ignore[misc]
        first.send_signal(number)
        stdout, stderr = first.communicate(timeout=120)
        assert first.returncode == code, stderr
        assert before < done() < 60
        wait_until(lambda: not actors())

    first = begin(command)
    for _ in range(2):
        before = done()
        # A part may still come from an actor that is gone, before the next one has started.
        wait_until(lambda before=before: done() > before and actors() != [], first)  # type: ignore[misc]
        (actor,) = actors()
        os.kill(actor, signal.SIGKILL)
        wait_until(lambda actor=actor: actor not in actors())  # type: ignore[misc]
    stdout, stderr = first.communicate(timeout=300)
    assert first.returncode == 1, stderr  # for the broken images
    assert "120 of 120 images (6 failed)" in stdout
    assert "2 workers lost" in stdout

    choices = Choices(str(weights), "full-image", None, None, False, False, 0.3)
    settings = choices.settings(choices.open(hrpose.load, 16, 1))
    rows = results(out)
    names = [row["file"] for row in rows]
    assert names == sorted(set(names))
    assert len(names) == 120
    assert (
        rows
        == Opening(str(tmp_path / "images"), choices, hrpose.load, settings)()(names).to_pylist()
    )
    assert [row["file"] for row in rows if row["reason"]] == broken


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_lost_machine_leaves_the_same_table(tmp_path: Path) -> None:
    """One of two is lost with its actor; the other does the rest, though its actor is killed."""
    pytest.importorskip("ray")
    write_images(tmp_path / "images", 160, (640, 480))
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [
        *BATCH, str(tmp_path / "images"), "--partition", "2", "--weights", str(weights),
        "--detector", "none",
    ]  # fmt: skip

    def done() -> int:
        return len(list((out / "poses").glob("part-*.parquet")))

    with subprocess.Popen(
        [sys.executable, "-c", NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        address = holder.stdout.readline().strip()
        if not address:
            pytest.skip("Ray did not start in the seconds it gives itself: the machine is too busy")

        def actors() -> list[int]:
            found = descendants(holder.pid).items()
            return [pid for pid, line in found if line.startswith("ray::_Actor")]

        worked = set[int]()

        def both_worked() -> bool:
            # Ray moves an actor that is not ready yet to the other machine: then none is lost.
            found = descendants(holder.pid).items()
            worked.update(pid for pid, line in found if line.startswith("ray::_Actor.work"))
            return len(worked) == 2 and done() > 0

        first = begin([*command, "--engine", "ray", "--address", address, "--out", str(out)])
        wait_until(both_worked, first)
        # Held, so that the job does not end while the machine is being taken away.
        both = actors()
        for actor in both:
            os.kill(actor, signal.SIGSTOP)
        print(file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "1\n"
        wait_until(lambda: len(actors()) == 1, first)
        (left,) = actors()
        for actor in both:
            if actor != left:
                with suppress(ProcessLookupError):
                    os.kill(actor, signal.SIGKILL)  # no child of the cluster without its machine
        before = done()
        os.kill(left, signal.SIGCONT)
        wait_until(lambda: done() > before, first)
        os.kill(left, signal.SIGKILL)
        stdout, stderr = first.communicate(timeout=300)
        holder.stdin.close()
    assert first.returncode == 1, stderr  # for the broken images
    assert "160 of 160 images (8 failed)" in stdout
    assert "2 workers lost" in stdout
    alone = subprocess.run([*command, "--workers", "1", "--out", str(whole)], capture_output=True)
    assert alone.returncode == 1
    assert results(out) == results(whole)


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "size"),
    [
        ({"CPU": 8.0, "memory": 1.0}, 1, 0, 8),
        ({"CPU": 8.0}, 3, 0, 2),
        ({"CPU": 64.0, "GPU": 4.0}, 4, 1, 4),
        ({"CPU": 64.0, "GPU": 4.0}, 4, 0.5, 8),
        ({"CPU": 2.0}, 4, 0, None),
        ({"CPU": 64.0}, 4, 1, None),
    ],
)
def test_capacity_for_workers(
    resources: dict[str, float], cpus: int, gpus: float, size: int | None
) -> None:
    if size is not None:
        assert _capacity(resources, cpus, gpus) == size
        return
    with refused("cluster-unavailable", "4 CPUs"):
        _capacity(resources, cpus, gpus)
