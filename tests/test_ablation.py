"""The ablation's columns: what is generated for each, and which decoders are trained to carry a mask."""

import click
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
