"""The ablation's columns: what is generated for each, and which decoders are trained to carry a mask."""

from pathlib import Path

import click
import pandas as pd
import pytest

from benchmarks.ablation import CARRY, PRESETS, columns_of
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume


def config_of(column):
    words = dict(zip(column.generate[::2], column.generate[1::2], strict=True))
    settings = [word for flag, word in zip(column.generate[::2], column.generate[1::2], strict=True)
                if flag == "--set"]  # fmt: skip
    return load_config(words["--preset"], settings, size=64)


def test_of_images_the_columns_are_the_presets():
    columns = columns_of(PRESETS, None)
    assert list(columns) == list(PRESETS)
    assert all(column.shards == name and not column.train for name, column in columns.items())
    assert make_sample(config_of(columns["full"]), 1, 0).image.shape == (64, 64)


def test_of_volumes_two_more_come():
    columns = columns_of(PRESETS, 6)
    assert list(columns) == [*PRESETS, "apart", "not_carried"]
    carried = {name for name, column in columns.items() if tuple(column.train) == CARRY}
    assert carried == set(PRESETS)
    assert columns["not_carried"].shards == columns["full"].shards
    assert {config_of(column).volume.depth for column in columns.values()} == {(6, 6)}
    assert [name for name, column in columns.items() if not config_of(column).volume.through_plane] == [
        "apart"
    ]
    assert len(make_volume(config_of(columns["neither"]), 1, 0)) == 6


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(click.UsageError, match="two columns of one name"):
        columns_of(["full", "other/full.yaml"], None)


TRAITS = Path(__file__).parents[1] / "benchmarks" / "traits"


@pytest.mark.parametrize("path", sorted(TRAITS.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_trait_is_full_with_it(path):
    config, full = load_config(str(path), size=64), load_config("full", size=64)
    assert config != full
    assert config.modality == full.modality
    assert make_sample(config, 1, 0).image.shape == (64, 64)


def test_each_switch_of_objects_has_its_own_trait():
    objects, full = load_config("objects"), load_config("full")
    switches = {name.removesuffix("_share") for name, value in objects.shapes if name.endswith("_share")
                and value != getattr(full.shapes, name)}  # fmt: skip
    plans = {name for name, weight in zip(*objects.plans("generic").items(), strict=True)
             if weight and not dict(zip(*full.plans("generic").items(), strict=True))[name]}  # fmt: skip
    assert {"group", "ragged", "cells", "walls"} <= switches | plans
    assert switches | plans <= {path.stem for path in TRAITS.glob("*.yaml")}


def test_gains_are_of_structures_and_told_apart_by_what_a_trait_was_made_for(monkeypatch):
    monkeypatch.syspath_prepend(TRAITS.parent)
    from trait_gains import gains, rows

    def scores(gain):
        """Two objects of a vessel, one of a liver; `tree` brings `gain` to the former and takes half."""
        lines = [
            (dataset, case, structure, 0, prompt, round_, method,
             0.5 + 0.1 * round_ + (method == "tree" and round_ == rounds) * gain * share)
            for dataset, structure, cases, share in (("a", "vessel", "12", 1), ("b", "liver", "1", -0.5))
            for case in cases for prompt, rounds in (("box", 1), ("point1", 1), ("clicks:5", 5))
            for round_ in range(1, rounds + 1) for method in ("full", "tree")
        ]  # fmt: skip
        names = ["dataset", "case", "structure", "instance", "prompt", "round", "method", "dsc"]
        table = pd.DataFrame(lines, columns=names)
        table.loc[(table["case"] == "2") & (table["method"] == "tree"), "dsc"] += 0.2
        table.attrs["methods"] = ["full", "tree"]
        return table

    seeds = [gains(scores(gain)) for gain in (0.1, 0.2)]
    assert seeds[0].loc[("clicks:5", "a", "vessel"), "tree"] == pytest.approx(0.1 + 0.1)
    own, other = ["+0.250 ± 0.071"] * 3, ["-0.075 ± 0.035"] * 3
    assert rows(seeds, {("tree", "a", "vessel")}) == [["tree", 1, *own, 1, *other]]
    assert rows(seeds[:1], set()) == [["tree", "", "", "", "", 2, *["+0.075"] * 3]]
