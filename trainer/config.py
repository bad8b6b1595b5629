"""What a training run is: the config and its presets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from synthfm.data.config import Config, Rising, Share, Weight, Weights, load_preset

PRESETS = Path(__file__).parent / "presets"

Factor = Annotated[float, Field(gt=0)]
Coarse = Annotated[float, Field(ge=1)]
Part = Literal["encoder", "prompt_encoder", "decoder"]
Apart = Annotated[int, Field(ge=1)]
Slices = Annotated[int, Field(ge=2)]
Depth = Annotated[int, Field(ge=1, le=16)]


class PromptMix(Weights):
    """How often each kind of first prompt is drawn (weights)."""

    point: Weight = 2.0
    """One click on the centre."""
    point_any: Weight = 1.0
    """One of the object's stored clicks inside."""
    point_person: Weight = 0.0
    """One click as people place it, see :func:`synthfm.data.prompts.person_point`."""
    point_random: Weight = 0.0
    """One click on any pixel of the object."""
    points: Weight = 1.0
    """Two or more clicks inside."""
    points_negative: Weight = 1.0
    """Clicks inside and outside."""
    box: Weight = 2.0
    """The tight box."""
    box_loose: Weight = 2.0
    """A box as a person would draw it."""
    box_point: Weight = 0.5
    """Loose box and one click inside."""
    mask: Weight = 0.25
    """A coarse mask alone."""
    scribble: Weight = 0.0
    """Strokes inside, and in most cases outside, see :mod:`synthfm.data.strokes`."""
    points_many: Weight = 0.0
    """Many clicks at once, inside and outside, in any order."""
    box_frame: Weight = 0.0
    """The box of the whole image for objects that are thin and spread over it, see
    :func:`synthfm.trainer.stream.samples.thin_and_spread`; a loose box for the others."""


class Prompting(Config):
    """First prompts and interactive rounds."""

    mix: PromptMix = PromptMix()
    groups: int = Field(default=2, ge=1)
    """Kinds of prompt per step: the objects of an image are split into so many groups, one kind each."""
    points_max: int = Field(default=5, ge=2)
    """Most clicks inside in a first prompt of several clicks."""
    negatives_max: int = Field(default=3, ge=1)
    """Most clicks outside in a first prompt with negatives."""
    strokes_max: int = Field(default=5, ge=1, le=10)
    """Most strokes of either kind of `scribble`."""
    many_max: int = Field(default=40, ge=2, le=100)
    """Most clicks of `points_many`."""
    interactive: Share = 0.5
    """How often a group goes on after its first prompt: a click deepest in the error, the mask fed back."""
    rounds_max: int = Field(default=4, ge=1)
    """Most rounds, the first included; the number is drawn evenly from 2 on."""
    refine: Share = 0.0
    """Share of the further rounds that bring no click: the mask alone is fed back, to be improved."""
    second_look: Share = 0.0
    """Share of the groups that get a second look, at a crop around the mask of one of their rounds."""
    carry: Share = 0.0
    """Share of the groups in which one object of each image is carried through slices of its volume."""
    carry_slices: Rising[Slices] = (2, 4)
    """How many slices such a run has, the first included."""
    carry_apart: Rising[Apart] = (1, 6)
    """How many slices apart they lie."""


class Loss(Config):
    """The objective."""

    kind: Literal["dice", "dice_focal", "dice_ce"] = "dice"
    scale: Literal[1, 2, 4] = 1
    """The loss is taken at so many times the decoder's resolution (logits upsampled bilinearly)."""
    multimask: Factor = 0.5
    """Weight of the three-mask output, of which the mask of least loss counts, as in SAM. It answers single
    clicks, so that it must learn."""
    iou: Weight = 0.5
    """Weight of the squared error of the estimated IoU."""
    nothing: Weight = 1.0
    """Under `thin`, weight of the objects that are not, whose masks are to be empty."""
    round_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each further round counts this much less."""


class Augment(Config):
    """What is done to an image of the stream; shares of images, spans of what is drawn."""

    flip: Share = 0.5
    rotate90: Share = 0.5
    affine: Share = 0.0
    zoom: Rising[Factor] = (0.7, 1.5)
    """Magnification under `affine`."""
    angle: float = Field(default=25.0, ge=0)
    """Largest rotation under `affine`, degrees."""
    crop: Share = 0.0
    """Cut to a rectangle and padded right and below, as SAM pads images that are not square."""
    gamma: Share = 0.0
    """Grey values raised to a power between 0.6 and 1.65, stretched or narrowed."""
    invert: Share = 0.0
    noise: Share = 0.0
    blur: Share = 0.0
    low_resolution: Share = 0.0
    """Sampled down and up again."""
    coarseness: Rising[Coarse] = (1.3, 3.0)
    """Factor of `low_resolution`."""
    shade: Share = 0.0
    """A smooth field of gain, factors up to 3.3 or 1/3.3."""
    fade: Share = 0.0
    """Patches in which detail under 16 pixels fades, outlines with it."""
    circle: Share = 0.0
    """Black outside of a circle, as the photograph of a retina is."""


class Stream(Config):
    """Shards to batches."""

    objects_per_image: int = Field(default=6, ge=1)
    balance: float = Field(default=0.5, ge=-1, le=1)
    """0: objects drawn evenly; 1: inversely to the square root of their area; -1: in proportion to it."""
    largest_first: Share = 0.0
    """Share of steps in which a click alone is asked of the larger of an image's chosen objects, so that it
    means the whole organ; in the others the groups take the objects by turns."""
    clear_clicks: Share = 0.0
    """A click inside falls on no other object of less than this share of the area of the one that it means:
    on something small it means that."""
    thin: Share = 0.0
    """Share of the images of which thin objects are chosen alone, see
    :func:`synthfm.trainer.model.thin.slenderness`, where there are any."""
    wide_boxes: Share = 0.0
    """Share of the loose boxes whose sides lie up to 0.8 of the object's extent beyond it, not 0.2."""
    min_area: int = Field(default=12, ge=1)
    """Objects of fewer pixels are not asked for."""
    max_share: Share = 0.9
    """Objects that cover more of the image are not asked for."""
    window: int = Field(default=16, ge=1)
    """Shards whose samples are shuffled among one another; so many files are open at once."""
    workers: int = Field(default=0, ge=0)
    """Processes that read ahead; 0 reads in the training process."""
    val_share: Share = 0.05
    """Share of samples held out for validation where no folder is given for it."""
    val_images: int = Field(default=96, ge=0)
    """Most images of one validation."""


class Optim(Config):
    """Optimiser and schedule."""

    kind: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for matrices and AdamW for the rest."""
    lr: Annotated[float, Field(gt=0)] = 4e-4
    encoder_lr: Annotated[float, Field(gt=0)] = 1.0
    """The encoder's learning rate as a multiple of `lr`."""
    weight_decay: Weight = 0.05
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    warmup: int = Field(default=250, ge=0)
    """Steps of linear warm-up; at most a quarter of the run's."""
    final: Share = 0.02
    """Learning rate at the end of the cosine, as a multiple of `lr`."""
    clip: Weight = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights that is validated and exported; 0 turns it off."""


class TrainConfig(Config):
    """A whole training run."""

    model: Literal["tiny", "vit_b", "vit_l", "vit_h", "mobile_sam"] = "tiny"
    image_size: int | None = None
    """Input size of `tiny`; None takes the checkpoint's, or 256."""
    depths: tuple[Depth, Depth, Depth] | None = None
    """Blocks of `tiny`'s encoder at stride 4, 8 and 16; None takes the checkpoint's, or 1, 2, 5. Those that a
    checkpoint lacks begin as the identity."""
    decoder: Literal["scratch", "pretrained"] = "scratch"
    freeze: tuple[Part, ...] = ("encoder", "prompt_encoder")
    thin: bool = False
    """Train the network for thin objects (:mod:`synthfm.trainer.model.thin`) alone; the rest of the model
    stays as it is."""
    steps: int = Field(default=10_000, ge=1)
    batch: int = Field(default=8, ge=1)
    """Images per step, over all processes."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which a step's images go through the model, to save memory."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """What matrices are multiplied in; auto takes bf16 where the machine computes in it, else 32."""
    compile: bool = False
    seed: int = Field(default=0, ge=0, lt=2**64)
    log_every: int = Field(default=20, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    save_every: int = Field(default=500, ge=1)
    patience: int = Field(default=0, ge=0)
    """Validations without improvement after which the run stops; 0 never stops."""
    prompts: Prompting = Prompting()
    loss: Loss = Loss()
    augment: Augment = Augment()
    stream: Stream = Stream()
    optim: Optim = Optim()

    @pydantic.field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML, and so ``--set``, reads 32 and 16 as numbers."""
        return str(value) if isinstance(value, int) else value

    @pydantic.model_validator(mode="after")
    def _divisible(self) -> TrainConfig:
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate})")
        return self

    @pydantic.model_validator(mode="after")
    def _of_tiny(self) -> TrainConfig:
        if self.thin and self.model != "tiny":
            raise ValueError(f"thin: only tiny has a network for thin objects, not {self.model}")
        return self

    @pydantic.model_validator(mode="after")
    def _an_object_for_each_group(self) -> TrainConfig:
        objects, groups = self.stream.objects_per_image, self.prompts.groups
        if objects < groups:
            raise ValueError(
                f"stream.objects_per_image ({objects}) must be at least prompts.groups ({groups}): each "
                "group has objects of its own"
            )
        return self


def load_config(preset: str, overrides: Iterable[str] = (), **keys: Any) -> TrainConfig:
    """A config from a preset's name or file, ``key=value`` overrides, and keys that replace the preset's."""
    return load_preset(TrainConfig, PRESETS, preset, overrides, **keys)
