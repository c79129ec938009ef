"""Running trained weights: sessions (crops to heatmaps) and the estimator (pictures to poses)."""
