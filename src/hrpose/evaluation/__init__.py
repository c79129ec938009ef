"""How good keypoints are: metrics, errors by kind, calibration, OKS constants, parity."""
