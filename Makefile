# `make` alone lists what there is. Nothing but make and Python 3.11 or newer has to be there first.

PYTHON ?= python3
PORT ?= 5000
ENGINE ?= local

# An active conda environment made from environment.yml is used as it is; else .venv is made here.
VENV := $(if $(filter deimos,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX),.venv)
PY := $(VENV)/bin/python
ENV := $(VENV)/.deimos-installed
LOCK := $(if $(PIP_TORCH_ARGS),$(VENV)/without-torch.lock,requirements.lock)

ifdef SCALE
WHY := as asked
else ifneq ($(findstring GPU,$(shell (nvidia-smi -L) 2>/dev/null)),)
SCALE := paper
WHY := this machine has a CUDA GPU
else
SCALE := quick
WHY := this machine has no CUDA GPU
endif
ifneq ($(filter-out paper quick smoke reference,$(SCALE))$(word 2,$(SCALE)),)
$(error SCALE is "$(SCALE)" but must be paper, quick or smoke)
endif
ifneq ($(and $(filter reference,$(SCALE)),$(filter-out figures,$(MAKECMDGOALS))),)
$(error SCALE=reference shows the runs that are kept: make figures SCALE=reference)
endif
ifneq ($(filter-out local ray,$(ENGINE))$(word 2,$(ENGINE)),)
$(error ENGINE is "$(ENGINE)" but must be local or ray)
endif
ifneq ($(shell case "$(N)" in (0*|*[!0-9]*) echo wrong;; esac),)
$(error N is "$(N)" but must be a number of repeats, from 1)
endif

EXECUTED := notebooks/executed
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
EXPERIMENTS := $(patsubst notebooks/%,$(EXECUTED)/%,$(filter-out notebooks/99-%,$(NOTEBOOKS)))
BEYOND := $(filter $(EXECUTED)/B%,$(EXPERIMENTS))
FIGURES := $(EXECUTED)/99-figures-and-tables.ipynb
# What an experiment's numbers come from, as record/provenance.py has it: a figure costs no GPU hour.
SCIENCE := $(wildcard $(addprefix deimos/,expected_improvement.py baselines.py k_center.py \
	$(foreach folder,acquisition models tasks experiment,$(folder)/*.py $(folder)/*.json)))
SETTINGS := $(EXECUTED)/.settings
CHOSEN := $(wildcard notebooks/scales/$(SCALE).yaml) $(SETTINGS)
NBSTRIPOUT := nbstripout --verify --keep-id \
	--extra-keys "metadata.papermill cell.metadata.papermill metadata.language_info.version"

asked = --scale $(SCALE) $(if $(N),--repeats $(N))
on_ray = $(asked) $(if $(GPUS_PER_TASK),--gpus-per-task $(GPUS_PER_TASK))
here = @$(PY) -m deimos.execution.notebooks $< $(asked)
# With DUE an experiment that is due is named, not executed.
execute = $(if $(DUE),@echo $<,$(if $(filter ray,$(ENGINE)),@$(PY) -m deimos.execution.ray_engine $< $(on_ray),$(here)))
SUBMAKE := $(MAKE) -s --no-print-directory SCALE=$(SCALE) N=$(N)

.PHONY: help
help: ## this list
	@awk -F ' *## ' '/^[a-z].*: .*## /{sub(/:.*/, "", $$1); printf "  make %-32s %s\n", $$1, $$2}' Makefile
	@echo; echo "SCALE=paper|quick|smoke (here $(SCALE): $(WHY)), N=repeats, PORT=5000, PYTHON=python3;"
	@echo "ENGINE=ray runs the fleets on every GPU that Ray sees, GPUS_PER_TASK=0.5 of one for each task."
	@echo "DEIMOS_DATA=folder is looked in before anything is downloaded. PIP_TORCH_ARGS=\"--index-url URL\""
	@echo "takes torch from another index (such as PyTorch's own for CPUs), the rest from the lock."

.PHONY: env
env: $(ENV) ## the environment: every package at the version and hash of requirements.lock
$(ENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("deimos needs Python 3.11 \
	or newer and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12" % v[:2])'
	@echo "Installing requirements.lock into $(VENV): 7 GB, about 5 minutes the first time."
	@test -n "$(filter-out .venv,$(VENV))" || $(PYTHON) -m venv .venv
ifdef PIP_TORCH_ARGS
	@$(PY) -m pip install --quiet $(PIP_TORCH_ARGS) $$(awk '/^torch(vision)?==/ {print $$1}' requirements.lock)
	@awk '/^[^ ]/ {keep = !/^(torch|triton|nvidia-|cuda-)/} keep' requirements.lock > $(LOCK)
endif
	@$(PY) -m pip install --quiet --require-hashes -r $(LOCK)
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation \
	--config-settings editable_mode=compat -e .
	@$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python 3" > /dev/null
	@touch $@

.PHONY: lock
lock: ## requirements.lock anew from pyproject.toml; pins stay unless UPGRADE=--upgrade
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
	--no-emit-index-url --no-strip-extras --custom-compile-command "make lock" $(UPGRADE) pyproject.toml \
	-o requirements.lock

.PHONY: audit
audit: $(ENV) ## known holes in what the lock installs, as PyPI tells them over the network
	@$(PY) -m pip install --quiet pip-audit
	@$(PY) -m pip_audit --strict --progress-spinner off --disable-pip --require-hashes -r requirements.lock \
	|| { echo "make audit: a hole, or PyPI cannot be asked about every package: see above" >&2; exit 1; }

.PHONY: data
data: $(ENV) ## fetch the data sets, or check those that are there
	@$(PY) -m deimos.tasks.mnist

# Two at a time keep the cores busy to the end if the long ones, which are the last, come first; on a
# GPU one does. Whoever says -j decides. Two bars would overwrite each other, so that each says in
# lines how far it is.
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS))$(filter paper,$(SCALE)),,-j2)

backwards = $(if $(1),$(call backwards,$(wordlist 2,$(words $(1)),$(1))) $(firstword $(1)))

.PHONY: reproduce
reproduce: ## the paper's notebooks, figures and tables (SCALE, N), then how they went
reproduce: DUE_HERE := $(filter-out $(BEYOND),$(EXPERIMENTS))

.PHONY: beyond
beyond: ## the notebooks beyond the paper, from B1 on (SCALE, N), then how they went
beyond: DUE_HERE := $(BEYOND)

reproduce beyond:
	@echo "Scale: $(SCALE), $(WHY)$(if $(N),; $(N) repeats)."
	+@$(SUBMAKE) env
ifeq ($(ENGINE),ray)
	@$(PY) -m deimos.execution.ray_engine $$($(SUBMAKE) DUE=yes $(DUE_HERE)) $(on_ray) || test $$? -eq 1
else
	+@$(if $(JOBS),DEIMOS_PROGRESS=$${DEIMOS_PROGRESS:-lines}) $(SUBMAKE) $(JOBS) --keep-going \
	$(if $(JOBS),$(call backwards,$(DUE_HERE)),$(DUE_HERE)) || true
endif
	+@$(SUBMAKE) $(FIGURES) || true
	@$(PY) -m deimos.execution.notebooks --summary

notebooks/executed/%.ipynb: notebooks/%.ipynb $(SCIENCE) $(CHOSEN) | $(ENV) ## one notebook alone
	$(execute)

# Each study names itself; what else its numbers come from stands beside it.
$(EXECUTED)/01-synthetic-1d.ipynb: $(addprefix deimos/,studies/one_dimension.py)
$(EXECUTED)/A1-greedy-vs-optimal.ipynb: $(addprefix deimos/,studies/greedy_vs_optimal.py)
$(EXECUTED)/B1-your-own-pool.ipynb: $(filter-out deimos/pool/for_% deimos/pool/__init__.py,$(wildcard \
	deimos/pool/*.py)) deimos/studies/batch_worth.py

# 99 reads the record alone, so it is due after any execution, even one that failed.
$(FIGURES): notebooks/99-figures-and-tables.ipynb $(wildcard deimos/*.py deimos/*/*.py) $(CHOSEN) \
	$(filter-out %/99-figures-and-tables.json,$(wildcard $(EXECUTED)/*.json)) | $(ENV)
	$(here)

# Our kept runs: the verdicts first, which the notebooks show, then every notebook that has some.
.PHONY: figures
figures: notebooks/99-figures-and-tables.ipynb $(ENV) ## from the record; SCALE=reference: our kept runs
ifeq ($(SCALE),reference)
	@$(PY) -m deimos.report.results_page
	@printf '%s\n' $(filter-out notebooks/B%,$(NOTEBOOKS)) | \
	DEIMOS_PROGRESS=lines xargs -n 1 -P 2 $(PY) -m deimos.execution.notebooks --scale reference
	@$(PY) -m deimos.report.notebook_page $(EXECUTED)/reference/*.ipynb
	@echo "Pages of the kept runs: docs/executed/*.md, and $(CURDIR)/$(EXECUTED)/reference/*.html"
else
	$(here)
endif

.PHONY: export
export: $(ENV) ## every run that has ended into one file (FILE, else runs.zip)
	@$(PY) -m deimos.record.archive --export $(or $(FILE),runs.zip)

.PHONY: import
import: $(ENV) ## the runs of an exported FILE into the record, each once
	@$(PY) -m deimos.record.archive --import $(or $(FILE),$(error make import needs FILE=, an exported file))

# Rewritten only when SCALE or N differ from last time.
.PHONY: settings
$(SETTINGS): settings
	@mkdir -p $(@D)
	@echo "$(SCALE) $(N)" | cmp -s - $@ || echo "$(SCALE) $(N)" > $@

.PHONY: test
test: $(ENV) ## the tests, in minutes, on all cores and without a GPU
	@OMP_NUM_THREADS=1 $(PY) -m pytest -q --durations=10 -m "not soak" \
	-n logical --maxprocesses 8 --dist worksteal

.PHONY: soak
soak: $(ENV) ## the slow tests: kills, full disks, servers, notebooks, a browser (Debian's chromium)
	@$(PY) -m pytest -q --durations=10 -m soak -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: ui
ui: $(ENV) ## figures, claims and every run in a browser, on this machine alone (PORT)
	@$(PY) -m deimos.report.browse $(PORT)

.PHONY: lab
lab: $(ENV) ## the notebooks in JupyterLab, on this machine alone
	@$(PY) -m jupyterlab --ip 127.0.0.1 --notebook-dir notebooks

.PHONY: bench
bench: $(ENV) ## speed beside other ways to the same results; BENCH="--full selection": some, at full size
	@$(PY) -m benchmarks $(BENCH)

.PHONY: lint
lint: $(ENV) ## ruff, and no output in any notebook
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(VENV)/bin/$(NBSTRIPOUT) $(NOTEBOOKS)

.PHONY: clean
clean: ## remove executed notebooks and caches; never data or runs
	rm -rf $(EXECUTED) .pytest_cache .ruff_cache .hypothesis deimos.egg-info \
	deimos/__pycache__ deimos/*/__pycache__ tests/__pycache__ tests/*/__pycache__ benchmarks/__pycache__ \
	notebooks/.ipynb_checkpoints
