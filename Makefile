# make demo · make check · make test · make lint · make fuzz · make soak · make bench · make peers · make servers · make triton
# make gpu-check · make micro · make clean
# Each sets up what it needs in .venv. Choose another Python with PYTHON=python3.12.

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
SERVERS := .venv-servers
TRITON := .venv-triton
GPU := .venv-gpu
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# make demo TRAINED=1: texts alone, with trained weights
# make demo IMAGE=chest.png CHECKPOINT=microsoft/BiomedVLP-CXR-BERT-specialized PHRASE="Left pleural effusion"
IMAGE ?=
CHECKPOINT ?=
PHRASE ?=
TRAINED ?=

# make check JOBS=4, make test ONLY="tests/export tests/test_readme.py" JOBS=0: how many processes, 0 for this one alone.
JOBS ?= 2
ONLY ?=
PYTEST = $(BIN)/python -m pytest -n $(JOBS)

# make fuzz MINUTES=60, make soak MINUTES=60 BUNDLE=bundles/biovil
MINUTES ?= 10
BUNDLE ?=

# make bench FULL=1: all shapes and peers, without a bound on the time. OPTIONS="--peers engine,torch-bf16" go to it.
FULL ?=
OPTIONS ?=
# Apart, since a comma ends an argument of make's functions.
ALL := --full --precision fp32,int8,int8-dynamic

.PHONY: demo check test lint fuzz soak bench gpu-check peers servers triton micro clean

demo: $(VENV)/.demo $(if $(TRAINED),$(VENV)/.trained)
	$(BIN)/python -m export.demo $(if $(TRAINED),--trained) $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(IMAGE),--image "$(IMAGE)") $(if $(PHRASE),--phrase "$(PHRASE)")

# While a change is made: linter, types and the tests that take no long time. ONLY=tests/export runs one wing's.
check: lint $(VENV)/.test
	$(PYTEST) -m "not slow" --durations=3 $(ONLY)

# Before it lands: everything. ONLY=tests/export/graphs runs all of one wing's.
test: $(VENV)/.test triton
	$(PYTEST) $(ONLY)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Readers of files against any input, led by coverage; the corpus and what was found stay in .cache/fuzz.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# Eight threads of mixed work on both engines: memory and answers.
soak: $(VENV)/.test
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(BUNDLE),--bundle "$(BUNDLE)")

# Peers that cannot live beside transformers 5 take part once `make peers` has set up their environment.
bench: $(VENV)/.bench
	$(BIN)/python -m bench --work .cache/bench --out bench-report $(if $(FULL),$(ALL),--minutes 15) $(OPTIONS)

# Looked for first: without a GPU nothing is installed.
gpu-check:
	@$(PYTHON) -c "import ctypes; ctypes.CDLL('libcuda.so.1')" 2>/dev/null || { echo "There is no NVIDIA driver here, so no GPU to check; python -m bench gpu-check --stand-in tries the way without one." >&2; exit 4; }
	@$(MAKE) --no-print-directory $(GPU)/.gpu
	$(GPU)/bin/python -m bench gpu-check --work .cache/bench --out gpu-report $(OPTIONS)

peers: $(PEERS)/.peers

# Other servers with the same graph, for `python -m bench serve`: each in an environment of its own, one that fails is said.
servers: $(SERVERS)/.servers

# A real Triton for its tests, of about 0.4 GB and without torch, in 10 to 60 s; where it cannot be had they are skipped.
triton: | $(VENV)/bin/python
	@$(MAKE) --no-print-directory $(TRITON)/.triton || echo "There is no Triton here; its tests are skipped."

micro: $(VENV)/.test
	$(BIN)/python -m pytest bench/micro --benchmark-only --benchmark-group-by=group

clean:
	rm -rf $(VENV) $(PEERS) $(SERVERS) $(TRITON) $(GPU) .cache demo bench-report gpu-report build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(None if (3, 10) <= sys.version_info[:2] else 'Python 3.10 or newer is needed; try make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)

# The stamps are made anew when the requirements change.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the runtime and the exporter (torch is large) …"
	$(PIP) -e '.[cpu,dicom,plot,export]'
	@touch $@

$(VENV)/.trained: pyproject.toml | $(VENV)/.demo
	$(PIP) -e '.[trained]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing everything the tests need (torch is large) …"
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.fuzz: pyproject.toml | $(VENV)/bin/python
	@echo "Installing everything the tests need, and the fuzzer (torch is large) …"
	$(PIP) -e '.[fuzz]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the engine and what it is measured beside (torch is large) …"
	$(PIP) -e '.[bench]'
	@touch $@

$(PEERS)/.peers: bench/peers-requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the peers that need transformers 4 (torch is large) …"
	$(BIN)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,openvino]' -r $<
	@touch $@

# onnxruntime and onnxruntime-gpu share their files: the last one installed is the one that runs.
$(GPU)/.gpu: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the engine with CUDA and what it is measured beside (several gigabytes) …"
	$(BIN)/python -m venv $(GPU)
	$(GPU)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(GPU)/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(GPU)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps onnxruntime-gpu
	$(GPU)/bin/python -m pip install --quiet --disable-pip-version-check 'onnxruntime-gpu[cuda,cudnn]'
	@touch $@

$(SERVERS)/.servers: bench/servers-requirements.txt | $(VENV)/bin/python
	@mkdir -p $(SERVERS)
	@grep -v '^#' $< | while read -r name packages; do \
	  echo "Installing $$name …"; \
	  $(BIN)/python -m venv $(SERVERS)/$$name && \
	  $(SERVERS)/$$name/bin/python -m pip install --quiet --disable-pip-version-check $$packages || \
	  echo "$$name cannot be installed here; it will be left out."; \
	done
	@touch $@

$(TRITON)/.triton: tests/export/triton/requirements.txt | $(VENV)/bin/python
	@$(BIN)/python -c "import platform, sys; sys.exit(None if (platform.system(), platform.machine()) == ('Linux', 'x86_64') and sys.version_info < (3, 13) else 'Triton needs Linux on x86-64 and Python 3.10 to 3.12.')"
	@echo "Installing Triton Inference Server for its tests …"
	$(BIN)/python -m venv --clear $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r $<
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps nvidia-pytriton==0.7.0
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[cpu,lint]'
	@touch $@
