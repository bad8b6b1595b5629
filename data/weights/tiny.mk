# The embedded model from nothing; stopped and started again, it goes on. Without a GPU by the eighteen stages that
# tiny.md tells of, with one in a single stage that has never run to its end (trainer/presets/tiny_gpu.yaml).
TINY := $(or $(OUT),runs/tiny)
# Outlines beside the edges, as people draw them, and objects in two pieces.
BESIDE := --set shapes.pieces_share=0.06 --set boundary.margin_share=0.3
ifneq ($(shell nvidia-smi -L 2>/dev/null | grep ^GPU),)
tiny: $(BIN)/.all ## train the embedded model from nothing (GPU or CPU preset, whichever the machine has)
	$(BIN)/synthfm-generate run --out $(TINY)/full256 --num 100000 --size 256 --seed 2 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256 --preset mild --num 60000 --size 256 --seed 4 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/us256 --preset us --num 60000 --size 256 --seed 32 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/xr256 --preset xr --num 30000 --size 256 --seed 32 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/demo256 --preset demo --num 20000 --size 256 --seed 51 $(BESIDE)
	$(BIN)/synthfm-train run --shards $(TINY)/us256,$(TINY)/full256,$(TINY)/mild256,$(TINY)/xr256,$(TINY)/demo256 --preset tiny_gpu --out $(TINY)/train
	$(BIN)/synthfm-train export $(TINY)/train/model.pth --half --out $(TINY)/tiny.pth
else
TRAIN_TWO := OMP_NUM_THREADS=1 $(BIN)/synthfm-train run --accelerator cpu --devices 2
# A stage made on a GPU: its large batches in parts, and no more processes than there are cores.
SMALL := --set accumulate=12 --set stream.workers=0
# And black patches over burned-in text.
DRAWN := --set acquisition.US.covered_share=0.12 $(BESIDE)
tiny: $(BIN)/.all
	$(BIN)/synthfm-generate run --out $(TINY)/full128 --num 40960 --size 128 --seed 1
	$(BIN)/synthfm-generate run --out $(TINY)/full256 --num 12288 --size 256 --seed 2
	$(BIN)/synthfm-generate run --out $(TINY)/mild128 --preset mild --num 40960 --size 128 --seed 3
	$(BIN)/synthfm-generate run --out $(TINY)/mild256 --preset mild --num 20480 --size 256 --seed 4
	$(TRAIN_TWO) --shards $(TINY)/full128 --preset tiny_cpu --out $(TINY)/train1
	$(TRAIN_TWO) --shards $(TINY)/full256 --preset tiny_cpu_256 --init-from $(TINY)/train1/model.pth --out $(TINY)/train2
	$(TRAIN_TWO) --shards $(TINY)/full128,$(TINY)/mild128 --preset stages/tiny_cpu_whole --init-from $(TINY)/train2/model.pth --out $(TINY)/train3
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256 --preset stages/tiny_cpu_whole_256 --init-from $(TINY)/train3/model.pth --out $(TINY)/train4
	$(BIN)/synthfm-generate run --out $(TINY)/demo256 --preset demo --num 12288 --size 256 --seed 51
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256,$(TINY)/demo256 --preset stages/tiny_cpu_organ_256 --init-from $(TINY)/train4/model.pth --out $(TINY)/train5
	$(TRAIN_TWO) --shards $(TINY)/full256,$(TINY)/mild256,$(TINY)/demo256 --preset stages/tiny_cpu_mixed_256 --init-from $(TINY)/train5/model.pth --out $(TINY)/train6
	$(BIN)/synthfm-generate run --out $(TINY)/full256b --num 24576 --size 256 --seed 2
	$(BIN)/synthfm-generate run --out $(TINY)/mild256b --preset mild --num 24576 --size 256 --seed 4
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/mild256b,$(TINY)/demo256 --preset stages/tiny_cpu_deep_256 --init-from $(TINY)/train6/model.pth --out $(TINY)/train7
	$(BIN)/synthfm-generate run --out $(TINY)/full256c --num 24576 --size 256 --seed 8
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset stages/tiny_cpu_close_256 --init-from $(TINY)/train7/model.pth --out $(TINY)/train8
	$(TRAIN_TWO) --shards $(TINY)/full256b,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset stages/tiny_cpu_choice_256 --init-from $(TINY)/train8/model.pth --out $(TINY)/train9
	$(BIN)/synthfm-generate run --out $(TINY)/us256 --preset us --num 12288 --size 256 --seed 32
	$(BIN)/synthfm-generate run --out $(TINY)/full256d --num 24576 --size 256 --seed 16
	$(TRAIN_TWO) --shards $(TINY)/us256,$(TINY)/full256d,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset stages/tiny_cpu_wall_256 --init-from $(TINY)/train9/model.pth --out $(TINY)/train10
	$(BIN)/synthfm-generate run --out $(TINY)/us256e --preset us --num 6144 --size 256 --seed 132
	$(BIN)/synthfm-generate run --out $(TINY)/full256e --num 5632 --size 256 --seed 116
	$(BIN)/synthfm-generate run --out $(TINY)/mild256e --preset mild --num 3328 --size 256 --seed 104
	$(BIN)/synthfm-generate run --out $(TINY)/demo256e --preset demo --num 2240 --size 256 --seed 151
	$(TRAIN_TWO) --shards $(TINY)/us256e,$(TINY)/full256e,$(TINY)/mild256e,$(TINY)/demo256e --preset stages/tiny_batch_256 --init-from $(TINY)/train10/model.pth --out $(TINY)/train11
	$(TRAIN_TWO) --shards $(TINY)/us256,$(TINY)/full256d,$(TINY)/full256c,$(TINY)/mild256b,$(TINY)/demo256 --preset stages/tiny_cpu_settle_256 --init-from $(TINY)/train11/model.pth --out $(TINY)/train12
	$(BIN)/synthfm-generate run --out $(TINY)/us256f --preset us --num 10240 --size 256 --seed 232
	$(BIN)/synthfm-generate run --out $(TINY)/full256f --num 16384 --size 256 --seed 216
	$(BIN)/synthfm-generate run --out $(TINY)/mild256f --preset mild --num 10240 --size 256 --seed 204
	$(BIN)/synthfm-generate run --out $(TINY)/demo256f --preset demo --num 4096 --size 256 --seed 251
	$(TRAIN_TWO) --shards $(TINY)/us256f,$(TINY)/full256f,$(TINY)/mild256f,$(TINY)/demo256f --preset stages/tiny_look_256 $(SMALL) --init-from $(TINY)/train12/model.pth --out $(TINY)/train13
	$(BIN)/synthfm-generate run --out $(TINY)/us256g --preset us --num 4096 --size 256 --seed 332
	$(BIN)/synthfm-generate run --out $(TINY)/full256g --num 8192 --size 256 --seed 316
	$(BIN)/synthfm-generate run --out $(TINY)/mild256g --preset mild --num 4096 --size 256 --seed 304
	$(BIN)/synthfm-generate run --out $(TINY)/demo256g --preset demo --num 2048 --size 256 --seed 351
	$(TRAIN_TWO) --shards $(TINY)/us256g,$(TINY)/full256g,$(TINY)/mild256g,$(TINY)/demo256g --preset stages/tiny_cpu_rest_256 --init-from $(TINY)/train13/model.pth --out $(TINY)/train14
	$(BIN)/synthfm-train export $(TINY)/train12/model.pth $(TINY)/train14/model.pth $(TINY)/train14/model.pth --half --out $(TINY)/mean14.pth
	$(BIN)/synthfm-generate run --out $(TINY)/us256h --preset us --num 8192 --size 256 --seed 432 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/full256h --num 12288 --size 256 --seed 416 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256h --preset mild --num 6144 --size 256 --seed 404 $(DRAWN)
	$(BIN)/synthfm-generate run --out $(TINY)/demo256h --preset demo --num 2048 --size 256 --seed 451 $(DRAWN)
	$(TRAIN_TWO) --shards $(TINY)/us256h,$(TINY)/full256h,$(TINY)/mild256h,$(TINY)/demo256h --preset stages/tiny_clear_256 $(SMALL) --init-from $(TINY)/mean14.pth --out $(TINY)/train15
	$(BIN)/synthfm-train export $(TINY)/mean14.pth $(TINY)/train15/model.pth $(TINY)/train15/model.pth --half --out $(TINY)/mean15.pth
	$(BIN)/synthfm-generate run --out $(TINY)/us256i --preset us --num 4096 --size 256 --seed 532 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/full256i --num 8192 --size 256 --seed 516 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256i --preset mild --num 4096 --size 256 --seed 504 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/xr256i --preset xr --num 6144 --size 256 --seed 532 $(BESIDE)
	$(TRAIN_TWO) --shards $(TINY)/us256i,$(TINY)/full256i,$(TINY)/mild256i,$(TINY)/xr256i --preset stages/tiny_cpu_radiograph_256 --init-from $(TINY)/mean15.pth --out $(TINY)/train16
	$(BIN)/synthfm-train export $(TINY)/mean15.pth $(TINY)/mean15.pth $(TINY)/train16/model.pth --half --out $(TINY)/mean16.pth
	$(BIN)/synthfm-generate run --out $(TINY)/us256j --preset us --num 2560 --size 256 --seed 632 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256j --preset mild --num 3584 --size 256 --seed 604 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/full256j --num 4096 --size 256 --seed 616 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/xr256j --preset xr --num 2048 --size 256 --seed 632 $(BESIDE)
	$(BIN)/synthfm-train embed --shards $(TINY)/us256j,$(TINY)/mild256j,$(TINY)/full256j,$(TINY)/xr256j --checkpoint $(TINY)/mean16.pth --out $(TINY)/embeddings17
	$(TRAIN_TWO) --shards $(TINY)/us256j,$(TINY)/mild256j,$(TINY)/full256j,$(TINY)/xr256j --preset stages/tiny_cpu_wide_256 --checkpoint $(TINY)/mean16.pth --embeddings $(TINY)/embeddings17 --out $(TINY)/train17
	$(BIN)/synthfm-train export $(TINY)/mean16.pth $(TINY)/mean16.pth $(TINY)/train17/model.pth --half --out $(TINY)/mean17.pth
	$(BIN)/synthfm-generate run --out $(TINY)/us256k --preset us --num 4096 --size 256 --seed 732 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/mild256k --preset mild --num 6144 --size 256 --seed 704 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/full256k --num 8192 --size 256 --seed 716 $(BESIDE)
	$(BIN)/synthfm-generate run --out $(TINY)/xr256k --preset xr --num 3072 --size 256 --seed 732 $(BESIDE)
	$(TRAIN_TWO) --shards $(TINY)/us256k,$(TINY)/mild256k,$(TINY)/full256k,$(TINY)/xr256k --preset stages/tiny_cpu_careless_256 --init-from $(TINY)/mean17.pth --out $(TINY)/train18
	$(BIN)/synthfm-train export $(TINY)/mean17.pth $(TINY)/mean17.pth $(TINY)/train18/model.pth --half --out $(TINY)/tiny.pth
endif
