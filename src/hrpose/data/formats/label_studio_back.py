"""Label Studio: tasks with the people as predictions to correct, and the labelling setup."""

import json
from typing import Any
from xml.sax.saxutils import quoteattr

from hrpose.data.formats.people import Person, PoseSet
from hrpose.data.formats.to_coco import box_of_joints

# Percentages; a millionth of a percent of the widest picture is less than 1/1000 pixel.
_DIGITS = 6


def files(found: PoseSet, prefix: str) -> dict[str, str]:
    """tasks.json and config.xml; `prefix` is what Label Studio finds the pictures below.

    The pictures' sizes have to be known, as they are in COCO.
    """
    label = found.skeleton.category or found.skeleton.name
    tasks = []
    for row, picture in enumerate(found.pictures, 1):
        size = picture.size_wh or (0, 0)
        results = [
            result
            for number, person in enumerate(picture.people, 1)
            for result in _results(person, f"p{row}-{number}", label, size)
        ]
        scores = [person.score for person in picture.people if person.score is not None]
        prediction: dict[str, Any] = {"model_version": "hrpose", "result": results}
        if scores:
            prediction["score"] = min(scores)  # the least sure person needs a look first
        tasks.append({"data": {"image": prefix + picture.name}, "predictions": [prediction]})
    return {
        "tasks.json": json.dumps(tasks, ensure_ascii=False),
        "config.xml": _config(found.skeleton.keypoints, label),
    }


def _results(person: Person, key: str, label: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The rectangle of a person, and below it the joints."""
    common = {
        "to_name": "image",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
    }

    def percent(value: float, axis: int) -> float:
        return round(100 * value / size[axis], _DIGITS)

    x, y, w, h = person.box or box_of_joints(person.joints.values(), size)
    box = {"x": percent(x, 0), "y": percent(y, 1), "width": percent(w, 0), "height": percent(h, 1)}
    results: list[dict[str, Any]] = [
        {
            **common,
            "id": key,
            "type": "rectanglelabels",
            "from_name": "person",
            "value": {**box, "rotation": 0, "rectanglelabels": [label]},
        }
    ]
    if person.score is not None:
        results[0]["score"] = person.score
    for number, (name, (x, y, visibility)) in enumerate(person.joints.items(), 1):
        result: dict[str, Any] = {
            **common,
            "id": f"{key}-{number}",
            "parentID": key,
            "type": "keypointlabels",
            "from_name": "joint",
            "value": {
                "x": percent(x, 0),
                "y": percent(y, 1),
                "width": 0.5,
                "keypointlabels": [name],
            },
        }
        if visibility == 1:
            result["meta"] = {"text": ["occluded"]}
        results.append(result)
    return results


def _config(joints: tuple[str, ...], label: str) -> str:
    lines = [f"    <Label value={quoteattr(name)}/>" for name in joints]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image"/>',
            '  <RectangleLabels name="person" toName="image">',
            f"    <Label value={quoteattr(label)}/>",
            "  </RectangleLabels>",
            '  <KeyPointLabels name="joint" toName="image">',
            *lines,
            "  </KeyPointLabels>",
            "</View>",
            "",
        ]
    )
