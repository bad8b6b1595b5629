"""Presets and settings of a training run."""

from __future__ import annotations

import pytest

from synthfm.data.console import InputError
from synthfm.trainer.config import PRESETS, load_config


@pytest.mark.parametrize(
    "preset", sorted(str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.yaml"))
)
def test_presets_are_valid(preset):
    assert load_config(preset).steps


@pytest.mark.parametrize("precision", ["32", "16", "bf16", "auto"])
def test_precision_is_taken_as_yaml_reads_it(tmp_path, precision):
    (tmp_path / "own.yaml").write_text(f"precision: {precision}\n")
    assert load_config("default", [f"precision={precision}"]).precision == precision
    assert load_config(str(tmp_path / "own.yaml")).precision == precision


def test_other_precisions_are_refused():
    with pytest.raises(InputError, match=r"precision.*'auto', '32', 'bf16' or '16'"):
        load_config("default", ["precision=64"])


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("prompts.groups=7", r"objects_per_image \(6\) must be at least prompts.groups \(7\)"),
        ("augment.zoom=[0,1]", r"augment.zoom.*greater than 0"),
        ("augment.zoom=[2,1]", r"augment.zoom.*rises from low to high"),
        ("augment.zoom=[1,.inf]", r"augment.zoom.*finite"),
        ("augment.coarseness=[0.5,2]", r"augment.coarseness.*greater than or equal to 1"),
        ("augment.coarseness=[3,2]", r"augment.coarseness.*rises from low to high"),
        ("optim.lr=.inf", r"optim.lr.*finite"),
        ("prompts.mix.point=.inf", r"prompts.mix.point.*finite"),
        ("stream.balance=.nan", r"stream.balance.*finite"),
        (f"seed={2**64}", r"seed.*less than"),
    ],
)
def test_settings_that_cannot_be_are_refused(override, wanted):
    with pytest.raises(InputError, match=wanted):
        load_config("default", [override])
