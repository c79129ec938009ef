# Every target installs what it needs: a fresh clone needs only make and Python 3.11 or newer.
# `make PYTHON=python3.12 test` uses another Python.
PYTHON ?= python3
BIN := .venv/bin
# Strict: a broken link, or a page without an entry in the menu, is an error. -m, for tools/ here.
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Pins the dependencies and the build dependencies (older and newer pip read one each).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test quick check docs format fuzz bench dist lock lowest highest model person-detector

demo: .venv-demo/installed  ## draw the poses of the people in examples/people into out/demo, without PyTorch
	.venv-demo/bin/hrpose predict examples/people --out out/demo --overwrite

# One thread for each of the processes, which share the cores.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

quick: .venv/installed  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	  -m "not slow and not browser and not ray and not shared"

# Style, types, layers, documentation, workflows and deployment files.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos
	$(DOCS) --quiet
	OMP_NUM_THREADS=1 $(BIN)/pytest -q checks
	$(BIN)/python -m tools.audit

docs: .venv/installed  ## the documentation as pages, in site/
	$(DOCS)

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: .venv/installed  ## 100,000 damaged files and requests into what reads untrusted ones
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz

bench: .venv/installed
	$(BIN)/python -m benchmarks

# Build the wheel and the sdist, check them, and use them in an empty environment. `make dist
# TAG=v1.2.3` also checks that this is the version, as a release does.
DIST_TOOLS := "build>=1.2,<2" "cyclonedx-python-lib>=11,<12" "twine>=6.1,<8"
dist: .venv-dist/installed
	rm -rf dist
	.venv-dist/bin/python -m build
	.venv-dist/bin/twine check --strict dist/*
	.venv-dist/bin/python -m tools.check_dist dist $(if $(TAG),--tag $(TAG))
	.venv-dist/bin/python -m tools.supply_chain sbom dist/*.whl

# Train the shipped model again: DATA is the folder with people/ and coco-mini/ (docs/models). Stage 8
# starts from the average of the two runs of stage 7.
DATA ?= data
TRAIN = OMP_NUM_THREADS=1 $(BIN)/hrpose train
STAGES = docs/models/history
model: .venv/installed
	for stage in 1 2 3 4 5 6 7a 7b; do \
	  $(TRAIN) $(STAGES)/w16-small-$$stage.yaml --data $(DATA) --out runs/w16-small-$$stage --resume || exit; \
	done
	$(BIN)/python -m tools.average runs/w16-small-7[ab]/w16-small.safetensors runs/w16-small-7.safetensors
	$(TRAIN) recipes/w16-small.yaml --set weights=runs/w16-small-7.safetensors --data $(DATA) \
	  --out runs/w16-small-8 --resume
	$(BIN)/hrpose export runs/w16-small-8/w16-small.safetensors --half --out src/hrpose/weights/w16-small.onnx

# Train the shipped person detector again, after the model: DATA is the folder with finder/ and people/.
# Stage 6 starts from an average, and its end is averaged with its start; a file given twice counts twice.
AVERAGE = $(BIN)/python -m tools.average --detector recipes/person-detector.yaml --data $(DATA)
TRAIN_DETECTOR = OMP_NUM_THREADS=1 $(BIN)/hrpose train-detector
RUN = runs/person-detector
DISTILL = OMP_NUM_THREADS=1 $(BIN)/python -m tools.distillation.detector
WIDE = $(DISTILL) train $(DATA)/packed $(DATA)/finder --network w16-wide --out $(RUN)-8 \
  --weights $(RUN)-7/averaged.safetensors
person-detector: .venv/installed
	for stage in 1 2 3 4 5; do \
	  $(TRAIN_DETECTOR) $(STAGES)/person-detector-$$stage.yaml --data $(DATA) --out $(RUN)-$$stage --resume || exit; \
	done
	$(AVERAGE) $(RUN)-4/person-detector-4.safetensors $(RUN)-5/person-detector-5.safetensors \
	  $(RUN)-5/person-detector-5.safetensors $(RUN)-mean.safetensors
	$(TRAIN_DETECTOR) recipes/person-detector.yaml --set weights=$(RUN)-mean.safetensors --data $(DATA) \
	  --out $(RUN)-6 --resume
	$(AVERAGE) $(RUN)-mean.safetensors $(RUN)-6/person-detector.safetensors \
	  $(RUN)-6/person-detector.safetensors $(RUN).safetensors
	$(DISTILL) label $(DATA)/packed --teacher $(DATA)/yolox_nano.onnx
	$(DISTILL) train $(DATA)/packed $(DATA)/finder --weights $(RUN).safetensors --out $(RUN)-7 --frames 110000
	$(DISTILL) train $(DATA)/packed $(DATA)/finder --weights $(RUN).safetensors --out $(RUN)-7 --frames 155000 \
	  --frame-side 320
	$(DISTILL) release $(RUN)-7 $(DATA)/finder --side 352 --out $(RUN)-7/person-detector.onnx
	$(WIDE) --frames 97000 --begin -97000 --lr 2e-3
	$(WIDE) --frames 127000 --begin 67000 --lr 5e-4 --frame-side 320
	$(DISTILL) release $(RUN)-8 $(DATA)/finder --network w16-wide --side 352 --threshold 0.2 \
	  --out src/hrpose/weights/person-detector.onnx

# Choose the newest allowed versions again. A local suffix such as +cpu names a build, not a version.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-lock/bin/pip install -q -e ".[dev]" $(DIST_TOOLS)
	.venv-lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt
	rm -rf .venv-lock
	$(PYTHON) -m tools.supply_chain hashes > hashes.new && mv hashes.new hashes.txt

.venv-dist/installed: Makefile constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q $(DIST_TOOLS)
	@touch $@

# The oldest versions that pyproject.toml allows, and the tests of what leans on them.
LEANING := tests/test_image.py tests/test_io.py tests/test_poses.py tests/test_session.py tests/data \
  tests/detection tests/models tests/serve tests/training/test_module.py \
  tests/video
lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) -m tools.lowest pyproject.toml > .venv-lowest/lowest.txt
	PIP_CONSTRAINT=.venv-lowest/lowest.txt .venv-lowest/bin/pip install -q \
	  -e ".[train,video,serve,tables,hdf5]" httpx hypothesis playwright pycocotools pytest pytest-xdist
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -q -m "not slow and not browser and not shared" $(LEANING)

# The newest that it allows, which are newer than those of constraints.txt, and the same tests.
highest:
	$(PYTHON) -m venv --clear .venv-highest
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-highest/bin/pip install -q --upgrade \
	  -e ".[train,video,serve,tables,hdf5]" httpx hypothesis playwright pycocotools pytest pytest-xdist
	OMP_NUM_THREADS=1 .venv-highest/bin/pytest -q -m "not slow and not browser and not shared" $(LEANING)

# The base install by the hashes of its files, where hashes.txt is of this system and Python.
HASHED = if $(@D)/bin/python -m tools.supply_chain covers hashes.txt; then PIP_CONSTRAINT= \
  $(@D)/bin/pip install -q --require-hashes --no-deps --only-binary :all: -r hashes.txt; fi

# The stamps: a second run is quick, a changed pyproject.toml or constraints.txt installs again.
.venv/installed: EXTRAS := [dev]
.venv-demo/installed: EXTRAS :=
.venv/installed .venv-demo/installed: pyproject.toml constraints.txt hashes.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "hrpose needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(@D)
	$(if $(EXTRAS),,$(HASHED))
	$(@D)/bin/pip install -q -e ".$(EXTRAS)"
	@touch $@
