"""An estimator on a data set: whose keypoints it predicts, and how good they are."""

# The function `evaluate` stays in its module: here it would hide the module of the same name.
from hrpose.evaluation.evaluate import Evaluator, Report
from hrpose.evaluation.predictions import DETECTOR, GROUND_TRUTH, check_boxes

__all__ = ["DETECTOR", "GROUND_TRUTH", "Evaluator", "Report", "check_boxes"]
