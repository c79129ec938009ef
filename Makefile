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

.PHONY: demo test quick check docs format fuzz bench dist lock lowest model finder

demo: .venv-demo/installed  ## draw the poses of the people in examples/ into out/demo, without PyTorch
	.venv-demo/bin/hrpose predict examples/*.jpg --out out/demo

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
DIST_TOOLS := "build>=1.2,<2" "twine>=6.1,<8"
dist: .venv-dist/installed
	rm -rf dist
	.venv-dist/bin/python -m build
	.venv-dist/bin/twine check --strict dist/*
	.venv-dist/bin/python -m tools.check_dist dist $(if $(TAG),--tag $(TAG))

# Make the embedded model again: DATA is the folder with people/ and coco-mini/ (docs/models). The
# eighth walk begins at the mean of the seventh's two halves.
DATA ?= data
model: .venv/installed
	for walk in 1 2 3 4 5 6 7a 7b 8; do \
	  if [ $$walk = 8 ]; then \
	    $(BIN)/python -m tools.average runs/w16-small-7[ab]/w16-small.safetensors runs/w16-small-7.safetensors || exit; \
	  fi; \
	  OMP_NUM_THREADS=1 $(BIN)/hrpose train recipes/w16-small-$$walk.yaml --data $(DATA) \
	    --out runs/w16-small-$$walk --resume || exit; \
	done
	$(BIN)/hrpose export --weights runs/w16-small-8/w16-small.safetensors --out src/hrpose/weights/w16-small.onnx

# Make the embedded person detector again, after the model: DATA is the folder with finder/ and people/. The
# sixth walk begins at a mean, and a mean is what ships; a walk that is named twice counts twice.
AVERAGE = $(BIN)/python -m tools.average --finder recipes/finder-6.yaml --data $(DATA)
finder: .venv/installed
	for walk in 1 2 3 4 5 6; do \
	  if [ $$walk = 6 ]; then \
	    $(AVERAGE) runs/finder-[45]/finder-?.safetensors runs/finder-5/finder-5.safetensors \
	      runs/finder-mean.safetensors || exit; \
	  fi; \
	  OMP_NUM_THREADS=1 $(BIN)/hrpose train-detector recipes/finder-$$walk.yaml --data $(DATA) \
	    --out runs/finder-$$walk --resume || exit; \
	done
	$(AVERAGE) runs/finder-mean.safetensors runs/finder-6/finder.safetensors \
	  runs/finder-6/finder.safetensors runs/finder.safetensors
	$(BIN)/hrpose export --weights runs/finder.safetensors --out src/hrpose/weights/person-detector.onnx

# Choose the newest allowed versions again. A local suffix such as +cpu names a build, not a version.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= .venv-lock/bin/pip install -q -e ".[dev]" $(DIST_TOOLS)
	.venv-lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt
	rm -rf .venv-lock

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
	  -e ".[train,video,serve,tables]" httpx hypothesis playwright pycocotools pytest pytest-xdist
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -q -m "not slow and not browser and not shared" $(LEANING)

# The stamps: a second run is quick, a changed pyproject.toml or constraints.txt installs again.
.venv/installed: EXTRAS := [dev]
.venv-demo/installed: EXTRAS :=
.venv/installed .venv-demo/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "hrpose needs Python 3.11 or newer, found " + sys.version.split()[0] + "; try make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q -e ".$(EXTRAS)"
	@touch $@
