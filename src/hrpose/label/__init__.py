"""`hrpose label`: label keypoints in the browser, into one folder, with a model that helps."""
