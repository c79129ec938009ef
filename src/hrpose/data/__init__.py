"""Training and evaluation data: COCO JSON to a table of persons, augmented crops, a dataset."""
