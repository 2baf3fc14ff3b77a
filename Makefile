# refcolor: `make demo` and `make test` need nothing but Python >= 3.11 and a network or package cache.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PYTHONUNBUFFERED = 1

.PHONY: help install demo test test-gpu lab app docs export notebooks readme publish clean

help:           ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# The constraints keep a CPU build of torch where pip finds one. Elsewhere on Linux the same pin is the CUDA build, of
# several GB: TORCH_INDEX=URL takes torch and torchvision from another index, such as that of the CPU builds which
# https://pytorch.org/get-started names.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/.installed: constraints.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "refcolor needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch torchvision)
	$(PIP) -e '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## set up .venv; TORCH_INDEX=URL: torch from there

demo: install   ## train TINY on avatars, evaluate on unseen pairs, draw the pictures: runs/demo
	$(BIN)/refcolor demo --out runs/demo

test: install   ## run every notebook cell and every test
	$(BIN)/python -m pytest -q --nbval --durations=15 nbs/ tests/

test-gpu: install  ## run the checks that need a CUDA device; elsewhere each is skipped, and says why
	$(BIN)/python -m pytest -q -rs -m gpu --durations=15 tests/

lab: install    ## open the course in JupyterLab
	$(BIN)/jupyter lab nbs/

app: install    ## serve the page: colour a drawing, and see why; APP="--no-browser --port=8000" for other options
	$(BIN)/refcolor app $(APP)

docs: install   ## build the documentation site, with its live page where there is npm: _site/
	$(BIN)/mkdocs build --strict

# the notebooks' numbers depend on the packaged weights: new ones only on purpose, with WEIGHTS=--weights
publish: install ## put the demo's result and pictures into nbs/
	$(BIN)/python .ci/publish.py runs/demo $(WEIGHTS)

export: install ## notebooks -> refcolor/*.py
	$(BIN)/nbdev_export

notebooks: export ## run all notebooks in place, and clean them
	$(BIN)/python .ci/notebooks.py

readme: install ## nbs/index.ipynb -> README.md
	$(BIN)/python .ci/readme.py

clean:          ## remove what the commands above made, but no results
	rm -rf $(VENV) build dist *.egg-info
