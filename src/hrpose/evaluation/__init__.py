"""An estimator on a data set: whose keypoints it predicts, and how good they are."""

from hrpose.evaluation.evaluate import Evaluator, Report, evaluate
from hrpose.evaluation.predictions import DETECTOR, GROUND_TRUTH, check_boxes

__all__ = ["DETECTOR", "GROUND_TRUTH", "Evaluator", "Report", "check_boxes", "evaluate"]
