# make demo | test | lab | bench | env | constraints | clean
PYTHON ?= python3
BIN := .venv/bin
export MPLBACKEND := agg

.PHONY: env demo test lab bench constraints clean

env: .venv/ready

.venv/ready: settings.ini setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade pip
	$(BIN)/pip install -qq --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: env
	$(BIN)/papermill nbs/03_train.ipynb output/demo_train.ipynb -f recipes/quick.yaml -p name demo
	$(BIN)/papermill nbs/04_infer.ipynb output/demo_infer.ipynb -p weights output/demo/weights.safetensors -p output output/demo_membranes
	$(BIN)/papermill nbs/04_infer.ipynb output/demo_shipped.ipynb -p output output/demo_shipped_membranes
	@$(BIN)/python tests/demo.py

test: env
	$(BIN)/python -m pytest tests

lab: env
	$(BIN)/jupyter lab --notebook-dir nbs

bench: env
	$(BIN)/python tests/bench.py

# every version of constraints.txt, for all Pythons of settings.ini at once
constraints:
	$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv
	build/uv/bin/uv pip compile --universal --python-version 3.10 --upgrade --extra dev --no-annotate --no-header setup.py --output-file constraints.txt

clean:
	rm -rf .venv .pytest_cache build *.egg-info output/demo* output/phantom*
