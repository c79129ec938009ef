"""How the validation people are scored: by COCO's AP, or by PCKh where they have head boxes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.data.heads import pckh_truth
from hrpose.data.persons import PersonTable
from hrpose.metrics.coco import evaluate_keypoints, select_results
from hrpose.metrics.pckh import pckh
from hrpose.passport import Passport
from hrpose.skeleton import MPII_16


class Validation:
    """Scores poses as `hrpose evaluate` does with ground-truth boxes."""

    def __init__(self, annotations: Path, table: PersonTable) -> None:
        self.annotations = annotations
        self.table = table
        mpii = table.skeleton.keypoints == MPII_16.keypoints
        self.truth = pckh_truth(annotations, table.annotation_ids) if mpii else None

    @property
    def figure(self) -> str:
        """The figure that says which weights are best; more is better."""
        return "AP" if self.truth is None else "PCKh"

    def scores(
        self, people: NDArray[np.int64], keypoints: NDArray[np.float64], passport: Passport
    ) -> dict[str, float]:
        """All figures by name. `people` (n,) rows of the table, `keypoints` (n, k, 3)."""
        table = self.table
        if self.truth is not None:
            known = self.truth.known[people]
            of = people[known]
            scores = pckh(
                keypoints[known],
                self.truth.points[of],
                self.truth.missing[of],
                self.truth.head_boxes[of],
            ).as_dict()
            return {"PCKh": scores.pop("Mean"), "PCKh@0.1": scores.pop("Mean@0.1"), **scores}
        results = select_results(
            table.image_ids[table.image_index[people]],
            keypoints,
            table.box_scores[people],
            [passport.crop(box).area for box in table.boxes[people]],
            sigmas=table.skeleton.sigmas,
            category_id=table.category_id,
        )
        return evaluate_keypoints(self.annotations, results, table.skeleton.sigmas).as_dict()
