"""The routes: their answers, and the OpenAPI document that describes them."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hrpose
from hrpose.serve import schemas
from hrpose.serve.inference import Service
from hrpose.serve.middleware import Limits
from hrpose.session import Session, open_session
from hrpose.skeleton import Skeleton
from hrpose.skeletons import HAND_21, WHOLEBODY_133
from tiny_weights import METADATA, write_tiny_weights

from .conftest import LIMITS, NUMBERS, SIZE, Serve, Server, SlowSession, image_of, number_in


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("raw", [True, False])
def test_the_answer_is_that_of_the_library(
    server: Server, weights: Any, kind: str, raw: bool
) -> None:
    image = image_of(5, kind)
    boxes = [[2.0, 3.0, 80.0, 120.0], [-10.0, 0.0, 96.0, 100.5]]
    options = {"boxes": json.dumps(boxes), "flip_test": "true", "threshold": "0.5"}
    if raw:
        response = server.request(
            "POST",
            "/v1/poses",
            content=image,
            params=options,
            headers={"content-type": f"image/{kind.lower()}"},
        )
    else:
        response = server.poses(image, **options)
    assert response.status_code == 200, response.text
    answer = schemas.PosesAnswer.model_validate_json(response.text)
    assert (answer.width, answer.height) == SIZE
    assert (answer.model, answer.boxes_from, answer.threshold) == ("tiny", "request", 0.5)
    expected = hrpose.load(weights, flip_test=True, threads=1)(image, boxes)
    assert [person.box for person in answer.persons] == boxes
    for person, keypoints, score in zip(
        answer.persons, expected.keypoints, expected.scores, strict=True
    ):
        found = [[point.x, point.y, point.score] for point in person.keypoints]
        np.testing.assert_allclose(found, keypoints, atol=0.006)
        assert person.score == pytest.approx(float(score), abs=1e-4)
        assert [point.name for point in person.keypoints] == list(expected.skeleton.keypoints)
        assert [p.present for p in person.keypoints] == [p.score >= 0.5 for p in person.keypoints]


def test_without_boxes_the_detector_runs(server: Server) -> None:
    answer = server.poses(image_of(7)).json()
    assert answer["boxes_from"] == "the full image"
    assert answer["persons"][0]["box"] == [0, 0, *SIZE]
    assert number_in(answer) == 7


def test_unsure_and_repeated_persons_are_left_out(serve: Serve) -> None:
    twice = [[0, 0, *SIZE, 0.9], [0, 0, *SIZE, 0.8]]
    server = serve(detector=lambda image: twice)

    def scores(**options: object) -> list[float]:
        answer = server.poses(image_of(7), **options).json()
        return [person["score"] for person in answer["persons"]]

    (best,) = scores(min_score=0)
    assert scores(min_score=best - 0.01) == [best]
    assert scores(min_score=best + 0.01) == []
    # In given boxes every person is wanted, unless a score is asked for.
    boxes = json.dumps([[0, 0, *SIZE]] * 2)
    assert len(scores(boxes=boxes)) == 2
    assert scores(boxes=boxes, min_score=1) == []
    assert server.poses(image_of(7), min_score=2).status_code == 422


def test_an_empty_list_of_boxes_has_no_persons(server: Server) -> None:
    assert server.poses(image_of(7), boxes="[]").json()["persons"] == []


def test_options_of_a_form_may_be_in_the_query(server: Server) -> None:
    response = server.request(
        "POST",
        "/v1/poses?threshold=0.9&boxes=[]",
        files={"image": image_of(1)},
        data={"threshold": "0.1"},
    )
    assert response.json()["threshold"] == 0.1
    assert response.json()["persons"] == []


def test_clients_share_batches_and_get_their_own_answers(server: Server) -> None:
    async def all_at_once() -> list[int]:
        asked = [
            server.ask("POST", "/v1/poses", files={"image": image_of(number % NUMBERS)})
            for number in range(60)
        ]
        return [number_in(answer.json()) for answer in await asyncio.gather(*asked)]

    assert asyncio.run(all_at_once()) == [number % NUMBERS for number in range(60)]
    metrics = server.request("GET", "/metrics").text
    assert 'hrpose_requests_total{route="/v1/poses",status="200"} 60.0' in metrics
    runs = float(metrics.split("hrpose_batch_crops_count ")[1].split()[0])
    assert runs < 60


def test_heatmaps_match_the_keypoints(server: Server) -> None:
    (person,) = server.poses(image_of(14), heatmaps="true").json()["persons"]
    maps = person["heatmaps"]
    stacked = np.asarray(Image.open(io.BytesIO(base64.b64decode(maps["png"]))))
    k = len(person["keypoints"])
    assert stacked.shape == (k * maps["height"], maps["width"])
    matrix = np.array(maps["to_image"])
    for heatmap, point in zip(np.split(stacked, k), person["keypoints"], strict=True):
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        place = matrix @ [x, y, 1]
        # The keypoint is a quarter of a heatmap's pixel further at most.
        assert np.abs(place - [point["x"], point["y"]]).max() <= matrix[0, 0] / 4 + 0.01
        assert heatmap.max() / 255 == pytest.approx(point["score"], abs=0.003)


def test_heatmaps_are_sent_only_on_request(server: Server) -> None:
    assert "heatmaps" not in server.poses(image_of(1)).json()["persons"][0]


def test_models_are_described(server: Server) -> None:
    answer = schemas.ModelsAnswer.model_validate_json(server.request("GET", "/v1/models").text)
    (model,) = answer.models
    assert (model.name, model.input_width, model.input_height) == ("tiny", 48, 64)
    assert model.keypoints[0] == "nose"
    assert answer.detector == "the full image"
    assert model.engine == "ONNX Runtime on CPU, fp32"
    assert answer.limits.max_boxes == LIMITS.max_boxes


@pytest.mark.parametrize(
    "skeleton", [Skeleton("ball", ("center",)), HAND_21, WHOLEBODY_133], ids=len
)
def test_any_number_of_keypoints(serve: Serve, tmp_path: Path, skeleton: Skeleton) -> None:
    weights = write_tiny_weights(tmp_path / "own.onnx", replace(METADATA, skeleton=skeleton))
    server = serve(open_session(weights, threads=1))
    (model,) = server.request("GET", "/v1/models").json()["models"]
    assert model["keypoints"] == list(skeleton.keypoints)
    assert len(model["keypoint_colors"]) == len(skeleton)
    assert len(model["limb_colors"]) == len(skeleton.limbs)
    fine = {"head", "foot", "face", "left_hand", "right_hand"}
    assert set(model["details"]) - {None} == (fine if skeleton is WHOLEBODY_133 else set())
    assert len(model["details"]) == len(skeleton)
    (person,) = server.poses(image_of(3)).json()["persons"]
    assert [point["name"] for point in person["keypoints"]] == list(skeleton.keypoints)


def test_a_full_queue_is_503_and_accepted_requests_are_answered(
    serve: Serve, session: Session
) -> None:
    gate = threading.Event()
    slow = SlowSession(session, gate)
    server = serve(slow, limits=Limits(queue_crops=3, gather_seconds=0))

    async def storm() -> list[Any]:
        def ask(n: int) -> Any:
            asked = server.ask("POST", "/v1/poses", files={"image": image_of(n)})
            return asyncio.create_task(asked)

        asked = [ask(0)]
        while not slow.entered.is_set():
            await asyncio.sleep(0.01)
        asked += [ask(n) for n in range(1, 12)]
        while sum(task.done() for task in asked) < 8:
            await asyncio.sleep(0.01)
        ready = await server.ask("GET", "/readyz")
        health = await server.ask("GET", "/healthz")
        assert (ready.status_code, health.status_code) == (503, 200)
        gate.set()
        return await asyncio.gather(*asked)

    answers = asyncio.run(storm())
    taken = [(n, answer) for n, answer in enumerate(answers) if answer.status_code == 200]
    assert len(taken) == 4  # one at the network and three in the queue
    assert all(number_in(answer.json()) == n for n, answer in taken)
    for answer in answers:
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]) == (503, "busy")
            assert int(answer.headers["retry-after"]) >= 1
    assert server.request("GET", "/readyz").status_code == 200


def test_too_many_requests_and_too_many_bytes_are_503(serve: Serve, session: Session) -> None:
    gate = threading.Event()
    image = image_of(1, "BMP")
    many = serve(SlowSession(session, gate), limits=Limits(requests=2))
    large = serve(SlowSession(session, gate), limits=Limits(upload_bytes=len(image) * 2 + 900))

    async def three(server: Server) -> list[int]:
        asked = [
            asyncio.create_task(server.ask("POST", "/v1/poses", files={"image": image}))
            for _ in range(3)
        ]
        while not any(task.done() for task in asked):
            await asyncio.sleep(0.01)
        gate.set()
        return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(three(many))) == [200, 200, 503]
    gate.clear()
    assert sorted(asyncio.run(three(large))) == [200, 200, 503]
    # The bytes are released.
    assert large.poses(image).status_code == 200
    assert many.poses(image).status_code == 200


def test_an_answer_that_takes_too_long_is_503(serve: Serve, session: Session) -> None:
    gate = threading.Event()
    server = serve(SlowSession(session, gate), limits=Limits(answer_seconds=0.2))
    response = server.poses(image_of(1))
    gate.set()
    assert (response.status_code, response.json()["error"]) == (503, "busy")


def test_slow_heatmaps_and_lack_of_memory_are_503(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    ways: list[Callable[[], object]] = [lambda: gate.wait(5), lambda: bytearray(2**62)]
    for way in ways:
        monkeypatch.setattr(Service, "_heatmaps", lambda *given, way=way: way())
        server = serve(limits=Limits(answer_seconds=0.2))
        response = server.poses(image_of(1), heatmaps="true")
        assert (response.status_code, response.json()["error"]) == (503, "busy")
    gate.set()


def test_a_failure_of_the_server_reveals_nothing(serve: Serve, session: Session) -> None:
    class Broken(SlowSession):
        def __call__(self, crops: Any) -> Any:
            raise RuntimeError("secret path /home/me")

    response = serve(Broken(session, threading.Event())).poses(image_of(1))
    assert response.status_code == 500
    assert response.json() == {
        "error": "broken", "reason": "the server failed; its log says why"
    }  # fmt: skip


def test_the_openapi_document_matches(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/poses", "/v1/models", "/metrics", "/healthz", "/readyz"
    }  # fmt: skip
    poses = document["paths"]["/v1/poses"]["post"]
    options = set(schemas.Options.model_fields)
    assert {parameter["name"] for parameter in poses["parameters"]} == options
    form = poses["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == options | {"image"}
    assert form["required"] == ["image"]
    problem = document["components"]["schemas"]["Problem"]
    for status in ("400", "408", "413", "415", "422", "503"):
        schema = poses["responses"][status]["content"]["application/json"]["schema"]
        assert schema["$ref"].endswith("/Problem")
    assert set(problem["properties"]) == {"error", "reason", "cause"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    # Every example of a parameter is accepted.
    for parameter in poses["parameters"]:
        for example in parameter["schema"].get("examples", []):
            response = server.poses(image_of(3), **{parameter["name"]: example})
            assert response.status_code in (200, 422)


def test_interactive_docs_from_elsewhere_are_off(server: Server) -> None:
    assert server.request("GET", "/redoc").status_code == 404
    assert "swagger" not in server.request("GET", "/docs").text.lower()
