# Everything that a fresh machine needs is installed by the first target: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
WORKDIR ?= .ixt/quickstart
VOLUME = $(WORKDIR)/volumes/ixt-quickstart
# `ixt run` with the quickstart's volume.
RUN = IXT_PVC_ROOT=$(abspath $(WORKDIR)/volumes) $(BIN)/ixt run
QUICKSTART := examples/quickstart
# Engines and libraries that talk to hubs stay at home; ranks and engines share few cores.
export HF_HUB_OFFLINE := 1
# Without bytecode each process that imports torch and transformers takes nearly twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## Say what there is.
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z0-9-]+( [a-z0-9-]+)*:.*## /{printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Set up
.PHONY: install dev
install: $(VENV)/.installed  ## Install ixt, engines and tools into .venv, pinned with hashes: 6 GB.
dev: $(VENV)/.light  ## The same without engines, for all that needs none: under 1 GB.

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@echo "installing into $(VENV): about 6 GB, two minutes on a fast network"
	@$(call SYNC,requirements/dev.txt)
	@touch $@ $(VENV)/.light

# What is installed with the engines has all of this too.
$(VENV)/.light: requirements/light.txt pyproject.toml
	@test -f $(VENV)/.installed || { $(call SYNC,requirements/light.txt); }
	@touch $@

# An environment that holds what one file of requirements says, and nothing else but uv.
define SYNC
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")' && \
{ test -x $(BIN)/uv || { $(PYTHON) -m venv --clear $(VENV) && $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt; }; } && \
$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes $(1) requirements/uv.txt && \
$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
endef

# Without the address of an index: files are found by their hashes, wherever they come from.
PIN := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q

.PHONY: requirements
requirements: install  ## Pin the dependencies anew (pyproject.toml -> requirements/*.txt).
	printf 'uv==%s\n' $(UV_VERSION) | $(BIN)/uv pip compile - --generate-hashes --no-header --no-annotate -q -o requirements/uv.txt
	$(PIN) --extra dev -o requirements/dev.txt
	$(PIN) --extra light -c requirements/dev.txt -o requirements/light.txt
	$(PIN) --extra operator -c requirements/dev.txt -o requirements/operator.txt
	$(PIN) --extra cpu --extra trackers -c requirements/dev.txt -o requirements/workloads-cpu.txt
	$(PIN) --extra gpu --extra trackers -o requirements/workloads-gpu.txt

## Examples
$(VOLUME)/.data: $(VENV)/.installed $(wildcard $(QUICKSTART)/*.py $(QUICKSTART)/judge/* $(QUICKSTART)/student/*)
	@mkdir -p $(VOLUME)
	@$(BIN)/python $(QUICKSTART)/make_data.py $(VOLUME)
	@touch $@

.PHONY: quickstart
quickstart: $(VOLUME)/.data  ## A run from data to report on this machine, in about a quarter of an hour.
	$(RUN) $(QUICKSTART)/run.yaml --workdir $(WORKDIR)

.PHONY: quickstart-full
quickstart-full: $(VOLUME)/.data  ## All arms, three seeds: an hour on two cores.
	$(RUN) $(QUICKSTART)/full.yaml --workdir $(WORKDIR)-full

.PHONY: quickstart-rollout
quickstart-rollout: quickstart  ## The quickstart, and its student learns from its own answers.
	$(RUN) $(QUICKSTART)/rollout.yaml --workdir $(WORKDIR)-rollout

.PHONY: stdlib
stdlib: $(VOLUME)/.data  ## A run over real text: sources of Python's standard library.
	@mkdir -p $(VOLUME)/stdlib && $(BIN)/python -c 'import pathlib, shutil, sysconfig; [shutil.copy(path, "$(VOLUME)/stdlib") for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))]'
	$(RUN) examples/stdlib/run.yaml --workdir .ixt/stdlib

.PHONY: judge
judge: install  ## Train the quickstart's judge again.
	$(BIN)/python $(QUICKSTART)/train_judge.py --out $(QUICKSTART)/judge

.PHONY: judge-agreement
judge-agreement: install  ## Serve the judge and measure how far it agrees with the truth.
	$(BIN)/python benchmarks/judge.py

## Check
.PHONY: lint
lint: dev  ## ruff, mypy --strict, import contracts. Without engines mypy leaves out what is made of them.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(if $(wildcard $(VENV)/.installed),,-p ixt_operator -p ixt_dashboards -p ixt_workloads.contract -p ixt_workloads.store -p ixt_workloads.feedback)
	$(BIN)/lint-imports

# What imports neither torch nor an engine, and starts no step but the stub.
PURE := tests/api tests/chart tests/contract tests/controller tests/feedback tests/monitoring tests/planner tests/render

.PHONY: test-pure
test-pure: lint  ## Those checks, and the tests that need no engine.
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(PURE)

.PHONY: test
test: export CUDA_VISIBLE_DEVICES :=
test: install lint  ## All checks and tests that need neither root nor Go nor a GPU.
	$(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: test-gpu
test-gpu: install  ## Training on a GPU of this machine.
	$(BIN)/python -m pytest tests/gpu tests/steps/test_train.py -k "gpu or packed"

# A real Kubernetes, built once from its Go modules: docs/test-cluster.md.
CLUSTER := PYTHONPATH=tests $(BIN)/python -m cluster
ON_CONTROL_PLANE := tests/chart tests/monitoring tests/cluster/on_control_plane

.PHONY: s3server
s3server: install  ## Build the S3 server that the tests of object stores need; needs Go.
	@$(CLUSTER) build versitygw

.PHONY: test-control-plane
test-control-plane: install  ## Tests on a real API server; needs Go.
	@$(CLUSTER) build control-plane helm prometheus
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ON_CONTROL_PLANE)

# One worker more, for the node: it waits more than it works, so both levels take little longer than it alone.
# Whole tasks of real engines on the machine itself take minutes, and wait as much.
# The base comes first, since within a test it would count towards that test's time limit.
.PHONY: test-cluster
test-cluster: cluster-binaries  ## Those, and tests on a real node: pods run; needs Go and root.
	@$(CLUSTER) base
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ON_CONTROL_PLANE) tests/cluster/on_node tests/engines

.PHONY: e2e
e2e: install  ## The quickstart on a cluster of yours: KUBECONFIG=... [IMAGES=registry/folder] [RUNTIME=nvidia].
	KUBECONFIG=$(KUBECONFIG) IMAGES=$(IMAGES) RUNTIME=$(RUNTIME) $(BIN)/python -m pytest tests/cluster/e2e

.PHONY: cluster-binaries
cluster-binaries: install
	@$(CLUSTER) packages
	@$(CLUSTER) build

.PHONY: cluster-up
cluster-up: cluster-binaries  ## Start a Kubernetes of one node with the operator; prints the lines that point a shell to it; needs Go and root.
	@$(CLUSTER) up

.PHONY: cluster-load
cluster-load: install  ## Bring images onto it: IMAGE=archive.tar, as docker save and buildah push write one; needs root.
	@$(CLUSTER) load $(IMAGE)

.PHONY: cluster-down
cluster-down: install  ## End it; nothing is left.
	@$(CLUSTER) down

## Make
.PHONY: crds
crds: dev  ## Generate crds/, docs/api.md, docs/metrics.md and the chart's CRDs and runtimes from the models.
	$(BIN)/python -m ixt_operator.generate.crd crds
	$(BIN)/python -m ixt_operator.generate.chart charts/ixt-operator
	$(BIN)/python -m ixt_operator.generate.reference docs/api.md
	$(BIN)/python -m ixt_operator.generate.metrics docs/metrics.md

.PHONY: dashboards
dashboards: dev  ## Generate dashboards/ and the chart's dashboards and rules from the table of metrics.
	$(BIN)/python -m ixt_dashboards .

.PHONY: docs
docs: dev  ## Build the docs site into site/, without network; to read it: `python3 -m http.server -d site`.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

PICTURES := $(if $(START),--start $(START)) $(if $(END),--end $(END))

.PHONY: pictures
pictures: dev  ## Draw the dashboards: PROMETHEUS=http://... RUN=namespace/name [OUT=docs/dashboards] [START= END=]; needs Node.
	PYTHONPATH=tests $(BIN)/python -m grafana.pictures $(PROMETHEUS) $(RUN) --out $(or $(OUT),docs/dashboards) $(PICTURES)

CONTAINERS ?= docker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# IMAGES=registry.example.com/ixt names them for a registry.
NAMED = $(if $(IMAGES),$(IMAGES)/)
# BASE=registry.example.com/python@sha256:... is the image that they are built on; see the Dockerfiles.
BUILD = $(CONTAINERS) build $(if $(BASE),--build-arg BASE=$(BASE))

.PHONY: image-operator image-cpu image-nvidia
image-operator:  ## Build the operator's image with docker, podman or buildah: [CONTAINERS=podman] [IMAGES=registry/folder] [BASE=image].
	$(BUILD) -f operator/Dockerfile -t $(NAMED)ixt-operator:$(VERSION) .
image-cpu:  ## Build the image of a run's pods for CPUs: 7 GB, ten minutes.
	$(BUILD) -f workloads/Dockerfile --build-arg ENGINES=cpu -t $(NAMED)ixt-workloads-cpu:$(VERSION) .
image-nvidia:  ## Build the image of a run's pods for NVIDIA's GPUs.
	$(BUILD) -f workloads/Dockerfile --build-arg ENGINES=gpu -t $(NAMED)ixt-workloads-nvidia:$(VERSION) .

.PHONY: clean
clean:  ## Remove the virtual environment, the docs site and .ixt, where runs keep their state by default.
	rm -rf $(VENV) .ixt site
