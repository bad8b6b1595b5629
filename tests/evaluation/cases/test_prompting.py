"""Prompt settings: the same for every method, whatever the order."""

import os
import subprocess
import sys

import numpy as np
import pytest

from synthfm.data.config import load_preset
from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases import prompting
from synthfm.evaluation.cases.prompting import (
    SETTINGS,
    Key,
    Setting,
    correct,
    make_prompt,
    parse_setting,
    person_prompt,
)
from synthfm.evaluation.config import PRESETS, EvalConfig


def disc(radius: int = 12, size: int = 64) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return (x - 30) ** 2 + (y - 28) ** 2 <= radius**2


def key(setting: str, case: str = "a") -> Key:
    return Key("set", case, "liver", setting)


COUNTS = {
    "point1": (1, 0, False),
    "point1_random": (1, 0, False),
    "point1_person": (1, 0, False),
    "point3": (3, 0, False),
    "point5": (5, 0, False),
    "point1_neg1": (1, 1, False),
    "point3_neg2": (3, 2, False),
    "box": (0, 0, True),
    "box_loose": (0, 0, True),
    "box_wide": (0, 0, True),
    "box_frame": (0, 0, True),
    "box_point": (1, 0, True),
    "scribble": (prompting.SCRIBBLE_POINTS, 0, False),
    "clicks:4": (1, 0, False),
    "points:7": (6, 1, False),
    "scribble:2": (4, 8, False),
}


@pytest.mark.parametrize(("setting", "expected"), COUNTS.items())
def test_a_setting_gives_its_clicks_and_box_where_they_belong(setting, expected):
    mask = disc()
    prompt = make_prompt(mask, key(setting), root=0)
    assert (len(prompt.positives), len(prompt.negatives), prompt.box is not None) == expected
    kind = Setting.of(prompt)
    assert (kind.clicks, kind.box) == (prompt.setting.clicks, prompt.setting.box)
    assert kind.negatives == prompt.setting.negatives or prompt.setting.interactive  # a later click may be
    assert all(mask[y, x] for x, y in prompt.positives)
    assert not any(mask[y, x] for x, y in prompt.negatives)


def test_every_setting_is_covered_above():
    assert set(SETTINGS) == set(COUNTS) - {"clicks:4", "points:7", "scribble:2"}


def test_a_prompt_depends_on_its_key_and_seed_alone():
    mask = disc()
    first = make_prompt(mask, key("point1_random"), root=3)
    for other in SETTINGS:  # what is drawn in between must not matter
        make_prompt(mask, key(other, case="b"), root=3)
    again = make_prompt(mask, key("point1_random"), root=3)
    assert again.seed == first.seed
    np.testing.assert_array_equal(again.points, first.points)


def test_seed_case_and_setting_each_change_what_is_drawn():
    mask = disc()
    points = {
        tuple(make_prompt(mask, key("point1_random", case), root).points[0])
        for case in "abcdef"
        for root in (0, 1)
    }
    assert len(points) > 8
    seeds = {prompting.prompt_seed(0, key(setting)) for setting in SETTINGS}
    assert len(seeds) == len(SETTINGS)


def test_the_seed_formula_is_stable_across_versions():
    # Published scores name prompt seeds: they must stay what they were.
    assert prompting.prompt_seed(0, Key("hc18", "010_HC", "fetal head", "box")) == 6685962473314192245


def test_the_tight_box_is_tight_and_the_loose_one_is_not():
    mask = disc()
    assert make_prompt(mask, key("box"), 0).box.tolist() == [18, 16, 43, 41]
    assert make_prompt(mask, key("box_loose"), 0).box.tolist() != [18, 16, 43, 41]
    off = {
        setting: np.array(
            [make_prompt(mask, key(setting), root).box - [18, 16, 43, 41] for root in range(40)]
        )
        for setting in ("box_loose", "box_wide")
    }
    extent = [25, 25, 25, 25]
    assert 0.1 < (abs(off["box_loose"]) / extent).max() < 0.3  # with some pixels of tremor
    assert 0.4 < (abs(off["box_wide"]) / extent).max() < 0.6


@pytest.mark.parametrize("root", [0, 7])
def test_the_box_of_the_frame_is_that_of_the_image_whatever_the_object(root):
    mask = disc()[:50]
    assert make_prompt(mask, key("box_frame"), root).box.tolist() == [0, 0, mask.shape[1], 50]
    assert mask.shape[1] != 50


def test_a_corrective_click_lies_in_the_largest_error_and_keeps_what_was_there():
    mask = disc()
    first = make_prompt(mask, key("clicks:3"), root=0)
    overrun = mask.copy()
    overrun[45:, :] = True
    second = correct(first, overrun, mask)
    assert second.labels.tolist() == [1, 0]
    assert second.points[0].tolist() == first.points[0].tolist()
    assert second.points[1][1] >= 45
    assert second.key == first.key
    third = correct(second, np.zeros_like(mask), mask)
    assert third.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "setting",
    ["dot", "clicks:0", "clicks:", "clicks:100", "clicks:2.5", "Box", "points:0", "strokes", "scribble:x"],
)
def test_an_unknown_setting_is_named_with_what_is_allowed(setting):
    with pytest.raises(InputError, match="point1_random"):
        parse_setting(setting)


def test_rounds():
    assert parse_setting("clicks:12").rounds == 12
    assert parse_setting("scribble").rounds == 1
    assert parse_setting("clicks:1").interactive
    assert not parse_setting("point1").interactive


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (Prompt([[1, 2], [3, 4], [5, 6]], [1, 0, 1]), "point2_neg1"),
        (Prompt([[1, 2]], [0], [1, 2, 3, 4]), "box_neg1"),
        (Prompt(box=[1, 2, 3, 4]), "box"),
    ],
)
def test_a_prompt_that_somebody_gave_is_named_by_what_it_holds(prompt, name):
    assert Setting.of(prompt).name == name


def test_an_empty_mask_has_no_prompt():
    for setting in COUNTS:
        with pytest.raises(ValueError, match="empty"):
            make_prompt(np.zeros((8, 8), bool), key(setting), 0)


def test_a_mask_of_one_pixel_has_every_prompt():
    mask = np.zeros((9, 9), bool)
    mask[4, 5] = True
    for setting in COUNTS:
        prompt = make_prompt(mask, key(setting), 0)
        assert all(mask[y, x] for x, y in prompt.positives)


def test_a_new_machine_compiles_first_and_says_so(tmp_path):
    program = """
import numpy as np
from synthfm.data.compiled import compiling
from synthfm.data.prompts import compile_kernels
from synthfm.evaluation.cases.prompting import SETTINGS, Key, correct, make_prompt
compile_kernels(shown=True)
mask = np.zeros((64, 64), bool)
mask[10:40, 12:30] = True
with compiling(shown=False) as seen:
    for name in SETTINGS:
        correct(make_prompt(mask, Key("set", "a", "x", name), 0), mask[::-1], mask)
print(seen.count)
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "compiling, once for this version on this machine\n" in done.stderr
    assert done.stdout == "0\n"


@pytest.mark.parametrize("kind", ["points", "scribble"])
def test_more_at_once_hold_the_fewer(kind):
    few, more = (make_prompt(disc(), key(f"{kind}:{count}"), 5) for count in (3, 9))
    pairs = [set(zip(map(tuple, p.points.tolist()), p.labels.tolist(), strict=True)) for p in (few, more)]
    assert pairs[0] < pairs[1]


def test_a_persons_strokes_are_those_of_that_person():
    drawn = np.zeros((2, 2, 64, 64), bool)
    drawn[0, 0, 28, 20:40] = drawn[0, 1, 5, 5:30] = drawn[1, 0, 30, 30] = True
    first, second = (person_prompt(drawn, key(f"strokes:{number}")) for number in (1, 2))
    assert (first.positives[:, 1] == 28).all()
    assert (first.negatives[:, 1] == 5).all()
    assert second.points.tolist() == [[30, 30]]
    assert second.setting.clicks
    assert not second.setting.interactive
    with pytest.raises(ValueError, match="strokes:3: 2 people's strokes are with liver"):
        person_prompt(drawn, key("strokes:3"))


def test_the_preset_all_has_every_setting_of_single_images():
    preset = load_preset(EvalConfig, PRESETS, "all")
    assert {name for name in preset.prompts if ":" not in name} == set(SETTINGS)
