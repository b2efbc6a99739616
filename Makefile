# make demo | test | test-browser | test-copick | mutants | lab | docs | bench | fuzz | env | constraints | clean
PYTHON ?= python3
BIN := .venv/bin
# threads that wait do not keep a busy processor from working; large pages for torch
export OMP_WAIT_POLICY := PASSIVE
export THP_MEM_ALLOC_ENABLE := 1

.PHONY: env demo test test-browser test-copick mutants lab docs bench fuzz constraints clean

env: .venv/ready

.venv/ready: settings.ini setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq --constraint constraints.txt --editable '.[dev]'
	touch $@

# all that the demo writes lies in build/demo
demo: env
	mkdir -p build/demo
	$(BIN)/papermill nbs/03_train.ipynb build/demo/train.ipynb -f recipes/quick.yaml -r output build/demo -r name network -p overwrite True
	$(BIN)/papermill nbs/04_infer.ipynb build/demo/infer.ipynb -r weights build/demo/network/weights.safetensors -r output build/demo/membranes -p overwrite True
	$(BIN)/papermill nbs/04_infer.ipynb build/demo/shipped.ipynb -r output build/demo/shipped_membranes -p overwrite True
	@$(BIN)/python benchmarks/demo.py

# two processes of one thread each; the one that has nothing left takes from the other
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/browser -n 2 --dist worksteal

# JupyterLab in Debian's Chromium (apt-get install chromium); skipped where there is none; pictures of what failed in build/browser
test-browser: env
	MEMBRANE_BROWSER=180 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -q -rs -p no:xdist

# what `membrane export FOLDER copick` writes, read by copick itself; copick wants zarr below 3, so it has an environment of its own
test-copick: env
	$(PYTHON) -m venv build/copick && build/copick/bin/pip install -qq 'copick>=1.31,<2'
	$(BIN)/python benchmarks/copick_reads.py write build/copick_project
	build/copick/bin/python benchmarks/copick_reads.py read build/copick_project

# breaks every page on purpose and prints what no lesson or test notices; half an hour
mutants: env
	$(BIN)/python tests/mutants.py

# without the question about JupyterLab's news
lab: env
	$(BIN)/jupyter lab --LabApp.news_url=None --notebook-dir . nbs/index.ipynb

# the site, in _docs/; needs no network
docs: env
	$(BIN)/python docs/build.py

# MONAI is what we compare with; it needs no more than torch and numpy for that
bench: env
	$(BIN)/pip install -qq --no-deps monai
	$(BIN)/python benchmarks/bench.py

# bad input at every door, and commands that are killed; not part of the tests
fuzz: env
	$(BIN)/python benchmarks/fuzz.py

# every version of constraints.txt, for all Pythons of settings.ini at once; a cache would not see that settings.ini changed
constraints:
	$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --no-cache --universal --python-version 3.11 --upgrade --extra dev --extra docs --no-annotate --no-header setup.py --output-file constraints.txt

# what this Makefile made, nothing of output/
clean:
	rm -rf .venv .pytest_cache .ruff_cache build _docs *.egg-info
