"""How the validation people are scored: by the class of figure that the data allow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.heads import pckh_truth
from hrpose.data.persons import PersonTable
from hrpose.errors import UserError
from hrpose.metrics.coco import evaluate_keypoints, select_results
from hrpose.metrics.distance import distances
from hrpose.metrics.pckh import pckh
from hrpose.passport import Passport
from hrpose.skeleton import MPII_16


class Validation:
    """Scores poses as `hrpose evaluate` does with ground-truth boxes.

    `figure` says which weights are best. With the `metric` "auto" it is PCKh where people have head
    boxes, AP where the skeleton has OKS constants, else PCK (see `hrpose.metrics.distance`).
    """

    def __init__(self, annotations: Path, table: PersonTable, metric: str = "auto") -> None:
        self.annotations = annotations
        self.table = table
        mpii = table.skeleton.keypoints == MPII_16.keypoints and metric in ("auto", "PCKh")
        self.truth = pckh_truth(annotations, table.annotation_ids) if mpii else None
        if metric == "PCKh" and self.truth is None:
            raise UserError(
                f"{annotations}: PCKh needs MPII's keypoints and head boxes, found none"
            )
        if metric == "auto":
            constants = "AP" if table.skeleton.has_sigmas else "PCK"
            metric = "PCKh" if self.truth is not None else constants
        self.figure = "PCK@0.1" if metric == "PCK" else metric

    @property
    def more_is_better(self) -> bool:
        """False of figures that are distances."""
        return self.figure not in ("NME", "EPE")

    def scores(
        self, people: NDArray[np.int64], keypoints: NDArray[np.float64], passport: Passport
    ) -> dict[str, float]:
        """All figures by name. `people` (n,) rows of the table, `keypoints` (n, k, 3)."""
        table = self.table
        far = distances(keypoints, table.keypoints[people], table.boxes[people]).as_dict()
        if self.truth is not None:
            known = self.truth.known[people]
            of = people[known]
            scores = pckh(
                keypoints[known],
                self.truth.points[of],
                self.truth.missing[of],
                self.truth.head_boxes[of],
            ).as_dict()
            strict = {"PCKh": scores.pop("Mean"), "PCKh@0.1": scores.pop("Mean@0.1")}
            return {**strict, **scores, **far}
        if self.figure != "AP" and not table.skeleton.has_sigmas:
            return far
        results = select_results(
            table.image_ids[table.image_index[people]],
            keypoints,
            table.box_scores[people],
            [passport.crop(box).area for box in table.boxes[people]],
            sigmas=table.skeleton.sigmas,
            category_id=table.category_id,
        )
        oks = evaluate_keypoints(self.annotations, results, table.skeleton.sigmas).as_dict()
        return {**oks, **far}
