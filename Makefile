# SynthFM: `make` lists the targets. Every target sets up .venv by itself when it is missing.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# generate
PRESET ?= full
N ?= 1000
SIZE ?= 256
SEED ?= 0
JOBS ?= -1
# train
MODEL ?= tiny
SHARDS ?= runs/shards
# SAM's own models need Meta's file, which `make weights` puts there.
WEIGHTS := runs/weights
SAM := $(if $(filter vit_%,$(MODEL)),$(wildcard $(WEIGHTS)/sam_$(MODEL)_*.pth))
# eval: DATA is the folder in which the datasets lie; the default is where those of development lie, beside the checkout
CHECKPOINT ?= tiny
DATA ?= ../shared/realdata
DATASETS ?= chaos-ct,msd-hippocampus,hc18
PROMPTS ?= box,point1
comma := ,
# The embedded model takes a second look, too; for another checkpoint that is one more encoding by its encoder for each prompt.
SECOND_LOOK := $(if $(filter tiny,$(CHECKPOINT)),second-look:tiny$(comma))

.DEFAULT_GOAL := help
.PHONY: help setup setup-generate generate train eval predict serve demo app tiny ablation weights test test-quick test-minimum \
  test-long audit lint links format lock docs bench bench-alone clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# The tested set of versions, for the Python that it was tested with; `make lock` renews it.
LOCK := .ci/lock-$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
INSTALL = lock=$(LOCK); $(BIN)/python -m pip install --quiet $$(test -f $$lock && echo --constraint $$lock) --editable

$(BIN)/.all: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): a few minutes the first time, about 6 GB with PyTorch"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) '.[train,eval,dev]'
	@touch $(BIN)/.all $(BIN)/.generate

# Generating needs no PyTorch: on a machine where nothing else is wanted, this is all that is installed.
$(BIN)/.generate: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) for the generator (no PyTorch)"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) .
	@touch $@

setup: $(BIN)/.all ## set up .venv with everything

setup-generate: $(BIN)/.generate ## set up .venv for the generator alone (no PyTorch)

generate: $(BIN)/.generate ## write synthetic shards: OUT= N= SIZE= SEED= JOBS= PRESET=
	$(BIN)/synthfm-generate run --out $(or $(OUT),runs/shards) --num $(N) --size $(SIZE) --seed $(SEED) --jobs $(JOBS) --preset $(PRESET) $(ARGS)

train: $(BIN)/.all ## train on shards: SHARDS= MODEL= OUT= ARGS='--set ...'
	$(BIN)/synthfm-train run --shards $(SHARDS) --model $(MODEL) $(if $(SAM),--checkpoint $(SAM)) --out $(or $(OUT),runs/train) $(ARGS)

eval: $(BIN)/.all ## score checkpoints on real datasets: CHECKPOINT= DATA= DATASETS= PROMPTS= OUT=
	$(BIN)/synthfm-eval run --checkpoint $(CHECKPOINT) --data-root $(DATA) --dataset $(DATASETS) --prompts $(PROMPTS) \
	  --method $(SECOND_LOOK)ellipse --out $(or $(OUT),runs/eval) $(ARGS)

# Small but whole. A second run finds what is done, scores the last case again and prints the table.
DEMO := $(or $(OUT),runs/demo)
REAL := $(wildcard $(DATA))
demo: $(BIN)/.all ## all three, small: generate, train tiny's decoder, evaluate on held-out and (if there) real images
	$(BIN)/synthfm-generate run --out $(DEMO)/shards --preset demo --num 2000 --seed 1
	$(BIN)/synthfm-generate run --out $(DEMO)/held-out --preset demo --num 128 --seed 2
	$(BIN)/synthfm-generate preview $(DEMO)/shards --out $(DEMO)/samples.png
	$(BIN)/synthfm-train embed --shards $(DEMO)/shards --out $(DEMO)/embeddings
	OMP_NUM_THREADS=1 $(BIN)/synthfm-train run --shards $(DEMO)/shards --embeddings $(DEMO)/embeddings --preset demo \
	  --accelerator cpu --devices 2 --out $(DEMO)/train
	$(BIN)/synthfm-eval run --checkpoint demo=$(DEMO)/train/model.pth --out $(DEMO)/eval \
	  --dataset $(DEMO)/held-out$(if $(REAL),$(comma)$(DATASETS) --data-root $(DATA)) --prompts box,box_loose,point1,point1_person --limit 60 \
	  || [ $$? = 1 ]  # a set that is not there is reported, and no reason to end
	@echo "Pictures: $(DEMO)/samples.png and $(DEMO)/eval; tables: $(DEMO)/eval/table.md"

predict: $(BIN)/.all ## segment scans of your own: SCAN= BOX=x0,y0,x1,y1[,slice] OUT= CHECKPOINT=
	$(BIN)/synthfm-eval predict $(SCAN) $(if $(BOX),--box $(BOX)) --checkpoint $(CHECKPOINT) --out $(or $(OUT),runs/predict) $(ARGS)

serve: $(BIN)/.all ## let nnInteractive's plug-ins for 3D Slicer and napari ask a checkpoint: CHECKPOINT=
	$(BIN)/synthfm-eval serve --checkpoint $(CHECKPOINT) $(ARGS)

# Samples that come with the program, the real sets where they are there, and files of one's own.
app: $(BIN)/.all ## a page to try a checkpoint by hand, on sets or one's own images: CHECKPOINT= DATA= DATASETS=
	$(BIN)/synthfm-eval app --checkpoint $(CHECKPOINT) \
	  --method $(SECOND_LOOK)ellipse,grabcut,random_walker,region_growing \
	  $(if $(REAL),--dataset $(DATASETS) --data-root $(DATA)) $(ARGS)

# From nothing; stopped and started again, it goes on. With a GPU in one stage, which has never run to its end.
RECIPE ?= data/weights/tiny$(if $(shell nvidia-smi -L 2>/dev/null | grep ^GPU),_gpu).yaml
tiny: $(BIN)/.all ## train the embedded model from nothing: RECIPE= OUT= ARGS=--dry-run
	$(BIN)/synthfm-train recipe $(RECIPE) --out $(or $(OUT),runs/tiny) $(ARGS)

ablation: $(BIN)/.all ## the paper's ablation on tiny's encoder, an hour or more: DATA= ARGS='--seeds 0,1,2'
	$(BIN)/python benchmarks/ablation.py --out $(or $(OUT),runs/ablation) --data-root $(DATA) $(ARGS)

# What others are measured beside this comes from the index. One that cannot be had is a row that says so.
$(BIN)/.bench: $(BIN)/.all
	$(INSTALL) '.[train,eval,onnx,sam2,bench]' && touch $@ \
	  || echo "Not all that is measured beside this could be installed"

bench: $(BIN)/.bench ## measure speed, beside others and by growth, for docs/peers.md: ARGS='--only generator'
	$(BIN)/python benchmarks/bench_all.py $(ARGS)

bench-alone: $(BIN)/.all ## print what else this project's own parts take: training, evaluation, clicks, a scan
	for part in train eval click scan; do $(BIN)/python benchmarks/bench_$$part.py || exit; done

weights: $(BIN)/.all ## download SAM's own weights and check their SHA-256: MODEL=vit_b|vit_l|vit_h
	$(BIN)/synthfm-train weights --model $(patsubst tiny,vit_b,$(MODEL)) --out $(or $(OUT),$(WEIGHTS))

# As many processes as cores, at most four; PyTorch computes in one thread in each.
test: $(BIN)/.all ## run the tests (the same set-up first)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-quick: $(BIN)/.all ## under two minutes: the tests that were fastest so far, as many as fit
	$(BIN)/python -m pytest --quick $(ARGS)

# In files of their own in tests/reliability; docs/reliability.md says what each does and how long it takes.
test-long: $(BIN)/.all ## hours: kill, signal and starve every command, thousands of mutated files, a long run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --long tests/reliability $(ARGS)

# In an environment of its own: it looks the tested set up, and is no part of it.
audit: $(BIN)/.all ## look the tested versions up among the known vulnerabilities (asks a server)
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $(LOCK) $(ARGS)

# By uv, as pip has no way to take the lowest versions; without SAM 2, whose build takes a PyTorch of its own.
test-minimum: ## the quick tests with the lowest versions that setup.cfg allows, in .venv-minimum
	@test -x .venv-minimum/bin/python || $(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --upgrade pip uv
	.venv-minimum/bin/uv pip install --quiet --python .venv-minimum/bin/python --resolution lowest-direct --editable '.[train,eval,test]'
	.venv-minimum/bin/python -m pytest --quick $(ARGS)

# Public versions without a build's tag (+cpu); what a build of torch brings along, it pins itself.
lock: $(BIN)/.all ## write the installed versions down as the tested set
	$(BIN)/python -m pip freeze --exclude-editable | sed -n 's/+[a-z0-9.]*$$//; /^\(nvidia\|cuda\|triton\)/d; /==/p' > $(LOCK)

# What reads packages without importing them finds them by their folders' names.
links:
	@mkdir -p build/mypy/synthfm && for package in data generator trainer evaluation; do \
	  ln -sfn ../../../$$package build/mypy/synthfm/$$package; done

docs: $(BIN)/.all links ## build the site into build/site, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet $(ARGS)

lint: $(BIN)/.all links ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint .ci/Dockerfile.*

format: $(BIN)/.all ## format the code and sort the imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what was generated (runs/) and the caches; .venv stays
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
