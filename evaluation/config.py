"""What one evaluation is made with; a preset is a YAML file in ``presets/``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.prompts import Multimask
from synthfm.evaluation.cases.prompting import parse_setting

PRESETS = Path(__file__).parent / "presets"


class EvalConfig(Config):
    """Settings of ``synthfm-eval run`` that change the scores.

    Attributes
    ----------
    dims
        2 scores single images, volumes slice by slice; 3 scores each object in a volume as a whole.
    prompts
        Prompt settings, as :mod:`synthfm.evaluation.cases.prompting` names them, all of images or all of
        volumes.
    seed
        Root of every prompt's seed.
    limit
        At most this many cases a dataset; None for all.
    tolerance_mm, tolerance_px
        How far a surface may lie off and still count as right in the surface Dice: where the spacing is
        known, and where it is not.
    multimask
        Of SAM's models, see :data:`synthfm.data.prompts.Multimask`.
    precision
        In which format models encode images: ``32``, by default, so that scores are the same on every
        machine; ``bf16``; or ``auto``, the one that this machine computes fastest in.
    overlays
        How many random cases keep a picture for each dataset, structure and prompt setting, beside the best
        and the worst; 0 makes no pictures.
    """

    dims: Literal[2, 3] = 2
    prompts: tuple[str, ...] = ("box", "point1")
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    tolerance_mm: float = Field(2.0, gt=0)
    tolerance_px: float = Field(2.0, gt=0)
    multimask: Multimask = "auto"
    precision: Literal["32", "bf16", "auto"] = "32"
    overlays: int = Field(9, ge=0)

    @model_validator(mode="after")
    def _of_one_kind(self) -> EvalConfig:
        for setting in self.prompts:
            if parse_setting(setting).dims != self.dims:
                what = "volumes" if self.dims == 2 else "single images"
                raise ValueError(f"prompts: {setting} is for {what}, dims is {self.dims}")
        return self

    @field_validator("prompts")
    @classmethod
    def _known(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if not prompts:
            raise ValueError("give at least one prompt setting")
        for setting in prompts:
            try:
                parse_setting(setting)
            except InputError as error:
                raise ValueError(str(error)) from error
        return tuple(dict.fromkeys(prompts))
