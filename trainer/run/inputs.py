"""What a run reads: datasets, the weights it begins with, embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam

from synthfm.data.console import InputError
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.model import models
from synthfm.trainer.stream.embeddings import Cache, encoder_hash


@dataclass(frozen=True)
class Inputs:
    """Where a run reads from.

    Attributes
    ----------
    shards, val
        Dataset folders; without `val` a share of the samples is held out.
    checkpoint
        The model's pretrained weights, whose decoder may be drawn afresh.
    init_from
        Weights to go on from as they are, decoder included.
    embeddings
        Folder of an embedding cache.
    """

    shards: tuple[str, ...]
    val: tuple[str, ...] = ()
    checkpoint: str | None = None
    init_from: str | None = None
    embeddings: str | None = None


def build_model(config: TrainConfig, inputs: Inputs) -> Sam:
    """The model as training finds it: decoder drawn afresh if asked for, frozen parts without gradient."""
    start = inputs.init_from or inputs.checkpoint
    decoder = "pretrained" if inputs.init_from else config.decoder
    if start is None and config.freeze:
        raise InputError(
            f"{config.model}: a frozen {config.freeze[0]} needs its weights: give --checkpoint "
            "('synthfm-train weights' fetches SAM's), or train it too with --train-encoder"
        )
    if start is None and decoder == "pretrained":
        raise InputError("decoder: there are no weights to keep; give --checkpoint, or --decoder scratch")
    if decoder == "scratch" and "decoder" in config.freeze:
        raise InputError(
            "freeze: a decoder that is drawn afresh has to learn; --decoder pretrained keeps the checkpoint's"
        )
    sam = models.build(
        config.model,
        checkpoint=start,
        decoder=decoder,
        image_size=config.image_size,
        depths=config.depths,
        seed=config.seed,
    )
    return prepare(sam, config)


def prepare(sam: Sam, config: TrainConfig) -> Sam:
    """Freeze what the config freezes, in place."""
    if config.thin and not hasattr(sam, "thin"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            sam.thin = models.make_thin()
    parts = {"encoder": sam.image_encoder, "prompt_encoder": sam.prompt_encoder, "decoder": sam.mask_decoder}
    for name, part in parts.items():
        part.requires_grad_(name not in config.freeze and not config.thin)
    if hasattr(sam, "thin"):
        sam.thin.requires_grad_(config.thin)
    for name in ("norm_head", "head"):  # MobileSAM's classifier, which nothing reads: DDP would wait for it
        if hasattr(sam.image_encoder, name):
            getattr(sam.image_encoder, name).requires_grad_(False)
    if not any(p.requires_grad for p in sam.parameters()):
        raise InputError("freeze: every part is frozen; leave at least one to be trained")
    return sam


def open_cache(config: TrainConfig, inputs: Inputs, sam: Sam) -> Cache | None:
    """The embedding cache, which must fit the frozen encoder; images cannot be augmented then."""
    if inputs.embeddings is None:
        return None
    if "encoder" not in config.freeze:
        raise InputError("--embeddings needs a frozen encoder; leave out --train-encoder")
    changes = [
        name for name, value in config.augment.model_dump().items() if isinstance(value, float) and value
    ]
    changes = [name for name in changes if name != "angle"]
    if changes:
        off = ", ".join(f"augment.{name}=0" for name in changes)
        raise InputError(f"--embeddings: images are encoded as they are; set {off}")
    return Cache(inputs.embeddings, encoder_hash(sam), inputs.shards, config.stream.window)
