"""Files of benchmarks measured by their own tools; `tools.benchmark_metrics` runs this in theirs.

    python benchmark_readers.py crowdpose|ochuman|coco_wholebody|posetrack18 FOLDER

FOLDER has truth.json, results.json and, where the tool needs them, sigmas.json. Prints the metrics
as JSON. xtcocotools measures CrowdPose and COCO-WholeBody; pycocotools OCHuman, whose files for a
range of MaxIoU are made by the rules of its OCHumanApi, which is not on PyPI. Nor is poseval: its
rules are here in plain loops, with motmetrics for tracks and Shapely for regions, as in poseval.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def read(folder, name):
    """A file's content."""
    return json.loads((folder / name).read_text())


def xtcocotools(truth, results, kind, sigmas, use_area=True, folder=None):
    """The evaluator of xtcocotools after its run."""
    import numpy as np
    from xtcocotools.coco import COCO
    from xtcocotools.cocoeval import COCOeval

    path = folder / "own.json"
    path.write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        found = coco.loadRes(json.loads(json.dumps(results)))
        run = COCOeval(coco, found, kind, np.array(sigmas), use_area=use_area)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def pycocotools(truth, results):
    """The ten metrics of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def crowdpose(folder):
    """The nine metrics; those of levels are rounded to four digits by the tool."""
    truth, results = read(folder, "truth.json"), read(folder, "results.json")
    sigmas = read(folder, "sigmas.json")
    run = xtcocotools(truth, results, "keypoints_crowd", sigmas, False, folder)
    names = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP easy", "AP medium", "AP hard")
    return dict(zip(names, run.stats.tolist(), strict=True))


TEN = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def coco_wholebody(folder):
    """The ten metrics of each part and of the whole."""
    truth, results = read(folder, "truth.json"), read(folder, "results.json")
    sigmas = read(folder, "sigmas.json")
    cuts = {
        "body": ("body", 0, 17),
        "foot": ("foot", 17, 23),
        "face": ("face", 23, 91),
        "left hand": ("lefthand", 91, 112),
        "right hand": ("righthand", 112, 133),
        "whole": ("wholebody", 0, 133),
    }
    measured = {}
    for name, (kind, start, stop) in cuts.items():
        run = xtcocotools(truth, results, f"keypoints_{kind}", sigmas[start:stop], True, folder)
        for metric, value in zip(TEN, run.stats.tolist(), strict=True):
            measured[f"{name} {metric}"] = value
    return measured


def ochuman(folder):
    """The ten metrics of val, and AP of the files of two ranges of MaxIoU."""
    raw, results = read(folder, "truth.json"), read(folder, "results.json")
    whole, numbers = ochuman_range(raw, 0.0, 1.0)
    measured = dict(zip(TEN, pycocotools(whole, results), strict=True))
    for name, low, high in (("moderate", 0.5, 0.75), ("hard", 0.75, 1.0)):
        part, own = ochuman_range(raw, low, high)
        back = {numbers[image]: number for image, number in own.items()}
        chosen = [{**r, "image_id": back[r["image_id"]]} for r in results if r["image_id"] in back]
        measured[f"AP {name}"] = pycocotools(part, chosen)[0]
    return measured


def ochuman_range(raw, low, high):
    """The COCO document of a range, and the new number of each image."""
    sides = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    coco = ["nose", *(f"{side}_{name}" for name in sides for side in ("left", "right"))]
    seen = {0: 0, 1: 2, 2: 2, 3: 1}
    images, annotations, numbers = [], [], {}
    for image in sorted(raw["images"], key=lambda each: each["image_id"])[:2500]:
        count = 0
        for person in image["annotations"]:
            if not (person["keypoints"] and person["segms"] and low <= person["max_iou"] < high):
                continue
            points = []
            for name in coco:
                at = 3 * raw["keypoint_names"].index(name)
                x, y, v = person["keypoints"][at : at + 3]
                points += [x, y, seen[int(v)]]
            x1, y1, x2, y2 = person["bbox"]
            count += 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images) + 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": points,
                    "num_keypoints": sum(v > 0 for v in points[2::3]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                }
            )
        if count:
            images.append({"id": len(images) + 1})
            numbers[image["image_id"]] = len(images)
    categories = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": annotations, "categories": categories}, numbers


KEYPOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    *("head_bottom", "nose", "head_top"),
)


def posetrack18(folder):
    """AP, precision and recall of each keypoint; MOTA, both MOTP, precision, recall and IDF1."""
    import numpy as np

    frames = []
    for number, (truth, found) in enumerate(
        zip(read(folder, "truth.json"), read(folder, "results.json"), strict=True)
    ):
        frames += frames_of(number, truth, found)
    lists = [([], []) for _ in KEYPOINTS]
    labeled = [0] * len(KEYPOINTS)
    motion = []
    for clip, persons, poses in frames:
        motion.append((clip, compared(persons, poses, lists, labeled)))
    curves = np.array([precision_recall(*lists[j], labeled[j]) for j in range(len(KEYPOINTS))])
    measured = dict(zip(("AP", "AP precision", "AP recall"), 100 * curves.T, strict=True))
    measured.update(tracks(motion))
    return {name: [float(v) for v in values] for name, values in measured.items()}


def frames_of(number, truth, found):
    """(clip, labeled persons, poses) of each image with labeled persons."""
    from shapely import geometry

    names = truth["categories"][0]["keypoints"]
    for image in truth["images"]:
        regions = [
            geometry.Polygon(list(zip(x, y, strict=True)))
            for x, y in zip(
                image.get("ignore_regions_x", []), image.get("ignore_regions_y", []), strict=True
            )
        ]
        both = []
        for document in (truth, found):
            persons = []
            for entry in document["annotations"]:
                if entry["image_id"] != image["id"]:
                    continue
                points = {}
                for row, name in enumerate(names):
                    x, y, v = entry["keypoints"][3 * row : 3 * row + 3]
                    if name in KEYPOINTS and (x, y, v) != (0, 0, 0):
                        score = entry["scores"][row] if "scores" in entry else None
                        points[KEYPOINTS.index(name)] = (x, y, score)
                persons.append((entry["track_id"] + 10000 * number, entry.get("bbox_head"), points))
            both.append(persons)
        if not both[0]:
            continue
        if regions:
            for persons in both:
                for _, _, points in persons:
                    for keypoint, (x, y, _) in list(points.items()):
                        if any(region.contains(geometry.Point(x, y)) for region in regions):
                            del points[keypoint]
                persons[:] = [person for person in persons if person[2]]
        yield number, *both


def compared(persons, poses, lists, labeled):
    """Add one image to the `lists` of scores and labels; returns the tracks of each keypoint."""
    import numpy as np

    for _, _, points in persons:
        for keypoint in points:
            labeled[keypoint] += 1
    distance = {}
    for p, (_, _, found) in enumerate(poses):
        for g, (_, head, points) in enumerate(persons):
            x, y, w, h = head
            size = 0.6 * np.linalg.norm(np.subtract([x + w, y + h], [x, y]))
            for keypoint in found.keys() & points.keys():
                across = np.subtract(points[keypoint][:2], found[keypoint][:2])
                distance[p, g, keypoint] = np.linalg.norm(across) / size
    owner = {}
    for p in range(len(poses)):
        shares = []
        for g, (_, _, points) in enumerate(persons):
            right = sum(
                distance.get((p, g, keypoint), 9) <= 0.5 for keypoint in range(len(KEYPOINTS))
            )
            shares.append(right / len(points) if points else float(right))
        if shares:
            g = shares.index(max(shares))
            if shares[g] > owner.get(g, (0, None))[0]:
                owner[g] = (shares[g], p)
    person_of = {p: g for g, (_, p) in owner.items()}
    for p, (_, _, found) in enumerate(poses):
        for keypoint in sorted(found):
            right = distance.get((p, person_of.get(p), keypoint), 9) <= 0.5
            lists[keypoint][0].append(found[keypoint][2])
            lists[keypoint][1].append(right)
    if not persons or not poses:
        return [([0], [0], np.full((1, 1), np.nan))] * len(KEYPOINTS)
    rows = []
    for keypoint in range(len(KEYPOINTS)):
        own = [g for g, person in enumerate(persons) if keypoint in person[2]]
        other = [p for p, pose in enumerate(poses) if keypoint in pose[2]]
        away = np.full((len(own), len(other)), np.nan)
        for row, g in enumerate(own):
            for column, p in enumerate(other):
                if distance[p, g, keypoint] <= 0.5:
                    away[row, column] = distance[p, g, keypoint]
        rows.append(([persons[g][0] for g in own], [poses[p][0] for p in other], away))
    return rows


def precision_recall(scores, right, labeled):
    """AP, precision and recall of one keypoint, as in PASCAL VOC 2010."""
    import numpy as np

    if not scores:
        return 0.0, 0.0, 0.0
    order = np.array(scores).argsort()[::-1]
    precisions, recalls, hits = [], [], 0
    for rank, row in enumerate(order, 1):
        hits += right[row]
        precisions.append(hits / rank)
        recalls.append(hits / labeled if labeled else float("nan"))
    if not labeled:
        return float("nan"), precisions[-1], float("nan")
    area, before = 0.0, 0.0
    for rank, recall in enumerate(recalls):
        if recall != before:
            area += (recall - before) * max(precisions[rank:])
            before = recall
    return area, precisions[-1], recalls[-1]


def tracks(motion):
    """The measures of tracks, by motmetrics."""
    import motmetrics
    import numpy as np

    names = ["num_misses", "num_switches", "num_false_positives", "num_objects", "num_detections"]
    names += ["idf1", "motp"]
    metrics = motmetrics.metrics.create()
    clips = sorted({clip for clip, _ in motion})
    rows = []
    for keypoint in range(len(KEYPOINTS)):
        total, raw, matched, idf1 = dict.fromkeys(names, 0), 0.0, 0.0, []
        for clip in clips:
            events = motmetrics.MOTAccumulator(auto_id=True)
            for _, frame in [each for each in motion if each[0] == clip][:-1]:
                events.update(*frame[keypoint])
            found = metrics.compute(events, metrics=names, return_dataframe=False, name="one")
            for name in names[:5]:
                total[name] += found[name]
            kinds = events.events["Type"]
            raw += events.events["D"][kinds.isin(["RAW", "MATCH", "SWITCH"])].sum()
            if found["num_detections"]:
                matched += found["motp"] * found["num_detections"]
            idf1.append(found["idf1"])
        objects = total["num_objects"] or np.nan
        hits, wrong = total["num_detections"], total["num_false_positives"]
        rows.append(
            (
                1 - (total["num_misses"] + total["num_switches"] + wrong) / objects,
                1 - raw / hits if hits else 0.0,
                1 - matched / hits if hits else 0.0,
                hits / (hits + wrong or np.nan),
                hits / objects,
                np.mean(idf1),
            )
        )
    columns = ("MOTA", "MOTP", "MOTP of matches", "precision", "recall", "IDF1")
    return dict(zip(columns, 100 * np.array(rows, float).T, strict=True))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
