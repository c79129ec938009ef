"""Data sets: COCO files and other formats, images, augmentation, samples, packing, editing."""
