# make demo · make test · make lint · make bench · make clean
# Each sets up what it needs in .venv. Choose another Python with PYTHON=python3.12.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# make demo IMAGE=chest.png CHECKPOINT=microsoft/BiomedVLP-CXR-BERT-specialized PHRASE="Left pleural effusion"
IMAGE ?=
CHECKPOINT ?=
PHRASE ?=

.PHONY: demo test lint bench clean

demo: $(VENV)/.demo
	$(BIN)/python -m export.demo $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(IMAGE),--image "$(IMAGE)") $(if $(PHRASE),--phrase "$(PHRASE)")

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m bench cold-start

clean:
	rm -rf $(VENV) .cache demo build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(None if (3, 10) <= sys.version_info[:2] else 'Python 3.10 or newer is needed; try make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)

# The stamps are made anew when the requirements change.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the runtime and the exporter (torch is large) …"
	$(PIP) -e '.[cpu,dicom,plot,export]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing everything the tests need (torch is large) …"
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[cpu,lint]'
	@touch $@
