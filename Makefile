# On a fresh machine: `make train` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test endurance quick check proto reference docs clean

train: .venv/.installed  ## train digits on two blocks
	$(BIN)/errorcast train digits

test: .venv/.installed  ## the tests; those on real data need ERRORCAST_DATA
	$(BIN)/python -m pytest -n 2 -m "not endurance"

endurance: .venv/.installed  ## what takes long: every combination, hundreds of kills, whole data sets
	$(BIN)/python -m pytest -m endurance

quick: .venv/.installed  ## the tests that start no process and train nothing: about 90 s
	$(BIN)/python -m pytest -n 2 -m unit

check: .venv/.installed  ## lint, import arrows, types, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	PYTHON=$(CURDIR)/$(BIN)/python PATH=$(CURDIR)/$(BIN):$$PATH proto/generate.sh --check

proto: .venv/.installed  ## make the Python of the .proto files
	PYTHON=$(CURDIR)/$(BIN)/python PATH=$(CURDIR)/$(BIN):$$PATH proto/generate.sh

reference: .venv/.installed  ## write the pages of docs/reference/ that are made from the code
	PYTHONPATH=docs $(BIN)/python -m docsite

docs: .venv/.installed  ## build the documentation site: then open site/index.html
	PYTHONPATH=docs $(BIN)/python -m docsite --check
	PYTHONPATH=docs NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "the site is built: open $(CURDIR)/site/index.html"

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "errorcast needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build site *.egg-info
