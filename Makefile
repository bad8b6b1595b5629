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
# The embedded model looks twice, too; for another checkpoint that is one more encoding by its encoder for each prompt.
TWICE := $(if $(filter tiny,$(CHECKPOINT)),zoom:tiny$(comma))

.DEFAULT_GOAL := help
.PHONY: help setup setup-generate generate train eval demo app tiny ablation weights test lint format bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BIN)/.all: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): a few minutes the first time, about 6 GB with PyTorch"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,eval,dev]'
	@touch $(BIN)/.all $(BIN)/.generate

# Generating needs no PyTorch: on a machine where nothing else is wanted, this is all that is installed.
$(BIN)/.generate: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) for the generator (no PyTorch)"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

setup: $(BIN)/.all ## set up .venv with everything

setup-generate: $(BIN)/.generate ## set up .venv for the generator alone (no PyTorch)

generate: $(BIN)/.generate ## write synthetic shards: OUT= N= SIZE= SEED= JOBS= PRESET=
	$(BIN)/synthfm-generate run --out $(or $(OUT),runs/shards) --num $(N) --size $(SIZE) --seed $(SEED) --jobs $(JOBS) --preset $(PRESET) $(ARGS)

train: $(BIN)/.all ## train on shards: SHARDS= MODEL= OUT= ARGS='--set ...'
	$(BIN)/synthfm-train run --shards $(SHARDS) --model $(MODEL) $(if $(SAM),--checkpoint $(SAM)) --out $(or $(OUT),runs/train) $(ARGS)

eval: $(BIN)/.all ## score checkpoints on real datasets: CHECKPOINT= DATA= DATASETS= PROMPTS= OUT=
	$(BIN)/synthfm-eval run --checkpoint $(CHECKPOINT) --data-root $(DATA) --dataset $(DATASETS) --prompts $(PROMPTS) \
	  --method $(TWICE)ellipse --out $(or $(OUT),runs/eval) $(ARGS)

# Small but whole. A second run finds what is done, scores the last case again and prints the table.
DEMO := $(or $(OUT),runs/demo)
REAL := $(wildcard $(DATA))
demo: $(BIN)/.all ## all three, small: generate, train tiny's decoder, evaluate on held-out and (if there) real images
	$(BIN)/synthfm-generate run --out $(DEMO)/shards --preset demo --num 2000 --seed 1
	$(BIN)/synthfm-generate run --out $(DEMO)/held-out --preset demo --num 128 --seed 2
	$(BIN)/synthfm-generate preview $(DEMO)/shards --out $(DEMO)/samples.png
	OMP_NUM_THREADS=1 $(BIN)/synthfm-train run --shards $(DEMO)/shards --preset demo --accelerator cpu --devices 2 --out $(DEMO)/train
	$(BIN)/synthfm-eval run --checkpoint demo=$(DEMO)/train/model.pth --out $(DEMO)/eval \
	  --dataset $(DEMO)/held-out$(if $(REAL),$(comma)$(DATASETS) --data-root $(DATA)) --prompts box,box_loose,point1 --limit 60
	@echo "Pictures: $(DEMO)/samples.png and $(DEMO)/eval; tables: $(DEMO)/eval/table.md"

# Synthetic images, the real sets where they are there, and files of one's own; classical methods beside the checkpoint.
APP := $(or $(OUT),runs/app)
app: $(BIN)/.all ## a page to try a checkpoint by hand, on sets or one's own images: CHECKPOINT= DATA= DATASETS=
	$(BIN)/synthfm-generate run --out $(APP)/synthetic --num 40 --seed 7
	$(BIN)/synthfm-eval app --checkpoint $(CHECKPOINT) \
	  --method $(TWICE)ellipse,grabcut,random_walker,region_growing \
	  --dataset $(APP)/synthetic$(if $(REAL),$(comma)$(DATASETS) --data-root $(DATA)) $(ARGS)

# The embedded model from nothing; stopped and started again, it goes on. Without a GPU by the fifteen stages that
# data/weights/tiny.md tells of, with one in a single stage that has never run to its end (trainer/presets/tiny_gpu.yaml).
TINY := $(or $(OUT),runs/tiny)
ifneq ($(shell nvidia-smi -L 2>/dev/null),)
tiny: $(BIN)/.all ## train the embedded model from nothing (GPU or CPU preset, whichever the machine has)
	$(BIN)/synthfm-generate run --out $(TINY)/full256 --num 100000 --size 256 --seed 2
	$(BIN)/synthfm-generate run --out $(TINY)/mild256 --preset mild --num 60000 --size 256 --seed 4
	$(BIN)/synthfm-generate run --out $(TINY)/us256 --preset us --num 60000 --size 256 --seed 32
	$(BIN)/synthfm-generate run --out $(TINY)/demo256 --preset demo --num 20000 --size 256 --seed 51
	$(BIN)/synthfm-train run --shards $(TINY)/us256,$(TINY)/full256,$(TINY)/mild256,$(TINY)/demo256 --preset tiny_gpu --out $(TINY)/train
	$(BIN)/synthfm-train export $(TINY)/train/model.pth --half --out $(TINY)/tiny.pth
else
TRAIN_TWO := OMP_NUM_THREADS=1 $(BIN)/synthfm-train run --accelerator cpu --devices 2
# A stage made on a GPU: its large batches in parts, and no more processes than there are cores.
SMALL := --set accumulate=12 --set stream.workers=0
# Outlines beside the edges, black patches over burned-in text, objects in two pieces.
DRAWN := --set acquisition.US.covered_share=0.12 --set shapes.pieces_share=0.06 --set boundary.margin_share=0.3
tiny: $(BIN)/.all
	$(BIN)/synthfm-generate run --out $(TINY)/full128 --num 40960 --size 128 --seed 1
	$(BIN)/synthfm-generate run --out $(TINY)/full256 --num 12288 --size 256 --seed 2
	$(BIN)/synthfm-generate run --out $(TINY)/mild128 --preset mild --num 40960 --size 128 --seed 3
	$(BIN)/synthfm-generate run --out $(TINY)/mild256 --preset mild --num 20480 --size 256 --seed 4
	$(TRAIN_TWO) --shards $(TINY)/full128 --preset tiny_cpu --out $(TINY)/train1
	$(TRAIN_TWO) --shards $(TINY)/full256 --preset tiny_cpu_256 --init-from $(TINY)/train1/model.pth --out $(TINY)/train2
	$(TRAIN_TWO) --shards $(TINY)/full128,$(TINY)/mild128 --preset tiny_cpu_whole --init-from $(TINY)/train2/model.pth --out $(TINY)/train3
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256 --preset tiny_cpu_whole_256 --init-from $(TINY)/train3/model.pth --out $(TINY)/train4
	$(BIN)/synthfm-generate run --out $(TINY)/demo256 --preset demo --num 12288 --size 256 --seed 51
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256,$(TINY)/demo256 --preset tiny_cpu_organ_256 --init-from $(TINY)/train4/model.pth --out $(TINY)/train5
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256,$(TINY)/demo256 --preset tiny_cpu_mixed_256 --init-from $(TINY)/train5/model.pth --out $(TINY)/train6
	$(BIN)/synthfm-generate run --out $(TINY)/full256b --num 24576 --size 256 --seed 2
	$(BIN)/synthfm-generate run --out $(TINY)/mild256b --preset mild --num 24576 --size 256 --seed 4
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/mild256b,$(TINY)/demo256 --preset tiny_cpu_deep_256 --init-from $(TINY)/train6/model.pth --out $(TINY)/train7
	$(BIN)/synthfm-generate run --out $(TINY)/full256c --num 24576 --size 256 --seed 8
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset tiny_cpu_close_256 --init-from $(TINY)/train7/model.pth --out $(TINY)/train8
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset tiny_cpu_choice_256 --init-from $(TINY)/train8/model.pth --out $(TINY)/train9
	$(BIN)/synthfm-generate run --out $(TINY)/us256 --preset us --num 12288 --size 256 --seed 32
	$(BIN)/synthfm-generate run --out $(TINY)/full256d --num 24576 --size 256 --seed 16
	$(TRAIN_TWO) --shards $(TINY)/us256,$(TINY)/full256d,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset tiny_cpu_wall_256 --init-from $(TINY)/train9/model.pth --out $(TINY)/train10
	$(BIN)/synthfm-generate run --out $(TINY)/us256e --preset us --num 6144 --size 256 --seed 132
	$(BIN)/synthfm-generate run --out $(TINY)/full256e --num 5632 --size 256 --seed 116
	$(BIN)/synthfm-generate run --out $(TINY)/mild256e --preset mild --num 3328 --size 256 --seed 104
	$(BIN)/synthfm-generate run --out $(TINY)/demo256e --preset demo --num 2240 --size 256 --seed 151
	$(TRAIN_TWO) --shards $(TINY)/us256e,$(TINY)/full256e,$(TINY)/mild256e,$(TINY)/demo256e --preset tiny_batch_256 --init-from $(TINY)/train10/model.pth --out $(TINY)/train11
	$(TRAIN_TWO) --shards $(TINY)/us256,$(TINY)/full256d,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset tiny_cpu_settle_256 --init-from $(TINY)/train11/model.pth --out $(TINY)/train12
	$(BIN)/synthfm-generate run --out $(TINY)/us256f --preset us --num 10240 --size 256 --seed 232
	$(BIN)/synthfm-generate run --out $(TINY)/full256f --num 16384 --size 256 --seed 216
	$(BIN)/synthfm-generate run --out $(TINY)/mild256f --preset mild --num 10240 --size 256 --seed 204
	$(BIN)/synthfm-generate run --out $(TINY)/demo256f --preset demo --num 4096 --size 256 --seed 251
	$(TRAIN_TWO) --shards $(TINY)/us256f,$(TINY)/full256f,$(TINY)/mild256f,$(TINY)/demo256f --preset tiny_look_256 $(SMALL) --init-from $(TINY)/train12/model.pth --out $(TINY)/train13
	$(BIN)/synthfm-generate run --out $(TINY)/us256g --preset us --num 4096 --size 256 --seed 332
	$(BIN)/synthfm-generate run --out $(TINY)/full256g --num 8192 --size 256 --seed 316
	$(BIN)/synthfm-generate run --out $(TINY)/mild256g --preset mild --num 4096 --size 256 --seed 304
	$(BIN)/synthfm-generate run --out $(TINY)/demo256g --preset demo --num 2048 --size 256 --seed 351
	$(TRAIN_TWO) --shards $(TINY)/us256g,$(TINY)/full256g,$(TINY)/mild256g,$(TINY)/demo256g --preset tiny_cpu_rest_256 --init-from $(TINY)/train13/model.pth --out $(TINY)/train14
	$(BIN)/synthfm-train export $(TINY)/train12/model.pth $(TINY)/train14/model.pth $(TINY)/train14/model.pth --half --out $(TINY)/mean14.pth
	$(BIN)/synthfm-generate run --out $(TINY)/us256h --preset us --num 8192 --size 256 --seed 432 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/full256h --num 12288 --size 256 --seed 416 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256h --preset mild --num 6144 --size 256 --seed 404 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/demo256h --preset demo --num 2048 --size 256 --seed 451 $(DRAWN)
	$(TRAIN_TWO) --shards $(TINY)/us256h,$(TINY)/full256h,$(TINY)/mild256h,$(TINY)/demo256h --preset tiny_clear_256 $(SMALL) --init-from $(TINY)/mean14.pth --out $(TINY)/train15
	$(BIN)/synthfm-train export $(TINY)/mean14.pth $(TINY)/train15/model.pth $(TINY)/train15/model.pth --half --out $(TINY)/tiny.pth
endif

ablation: $(BIN)/.all ## the paper's ablation on tiny's encoder, an hour or more: DATA= ARGS='--seeds 0,1,2'
	$(BIN)/python benchmarks/ablation.py --out $(or $(OUT),runs/ablation) --data-root $(DATA) $(ARGS)

bench: $(BIN)/.all ## measure speed: generator, trainer, evaluation
	$(BIN)/python benchmarks/bench_generate.py
	$(BIN)/python benchmarks/bench_train.py
	$(BIN)/python benchmarks/bench_eval.py
	$(BIN)/python benchmarks/bench_click.py

weights: $(BIN)/.all ## download SAM's own weights and check their SHA-256: MODEL=vit_b|vit_l|vit_h
	$(BIN)/synthfm-train weights --model $(patsubst tiny,vit_b,$(MODEL)) --out $(or $(OUT),$(WEIGHTS))

test: $(BIN)/.all ## run the tests (the same set-up first)
	$(BIN)/python -m pytest $(ARGS)

lint: $(BIN)/.all ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(BIN)/.all ## format the code and sort the imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what was generated (runs/) and the caches; .venv stays
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
