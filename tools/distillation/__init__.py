"""Training of a small network on human labels and a teacher's keypoints; checkpoints/README.md says
how to resume it.

1. `python -m tools.distillation.data`: all crops decoded once into one file (`data.py`);
2. `python -m tools.distillation.teacher`: the teacher's keypoints, with OpenVINO (`teacher.py`);
3. `python -m tools.distillation.expand`: initial weights from w16-small (`expand.py`);
4. `python -m tools.distillation.train`: the training (`train.py`, `samples.py`, `recipe.py`);
5. `python -m tools.distillation.release`: the ONNX file that ships (`release.py`).
"""
