"""Statistics of a dataset: counted right, and a share that is off the preset is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthfm.data.folder import Manifest, describe_shard, write_manifest
from synthfm.generator.config import load_config, modality_shares
from synthfm.generator.folder.stats import (
    Measured,
    draw_page,
    histograms,
    measure,
    shares,
    text_page,
    warnings,
)
from synthfm.generator.objects import reach
from tests.support.shards import random_samples, write_shard


def measured(samples: int = 1000, **changes: object) -> Measured:
    """A dataset as its config asks for it, the full preset's if none is given."""
    config: Any = changes.get("config", load_config("full").model_dump(mode="json"))
    rng = np.random.default_rng(0)
    names, weights = zip(*modality_shares(config).items(), strict=True)
    count = np.full(samples, 4)
    values = {
        "name": "data",
        "config": config,
        "size": 256,
        "modality": rng.choice(names, samples, p=np.array(weights) / sum(weights)),
        "count": count,
        "area": np.full(4 * samples, 100, np.int32),
        "contrast": rng.choice([0.2, 2.0], 4 * samples, p=[0.3, 0.7]).astype(np.float32),
        "blur": rng.choice([8.0, 2.0], 4 * samples, p=[0.3, 0.7]).astype(np.float32),
        "family": rng.choice(["star", "tube"], 4 * samples, p=[0.75, 0.25]),
    }
    return Measured(**{**values, **changes})


def test_the_tables_of_all_shards_are_joined(tmp_path: Path) -> None:
    samples = random_samples(0, 6)
    lines = [
        describe_shard(write_shard(tmp_path / f"shard-{k}.h5", samples[3 * k : 3 * k + 3], first_index=3 * k))
        for k in range(2)
    ]
    write_manifest(tmp_path, Manifest({"size": 24}, "1", 7, 6, 3, tuple(lines)))
    found = measure(tmp_path)
    assert found.modality.tolist() == [sample.modality for sample in samples]
    assert found.count.tolist() == [len(sample.objects) for sample in samples]
    assert found.area.tolist() == [area for sample in samples for area in sample.objects.area]
    assert found.size == 24
    assert "6 samples" in text_page(found)
    assert warnings(found) == []  # a config that says nothing asks for nothing


def test_every_object_is_counted_once_also_beyond_the_last_bar():
    data = measured(contrast=np.linspace(0, 50, 4000, dtype=np.float32), blur=np.full(4000, 12, np.float32))
    for histogram in histograms(data):
        assert histogram.counts.sum() == (1000 if "per image" in histogram.title else 4000)
    assert histograms(data)[1].counts[-1] > 3000
    assert histograms(data)[1].quantiles[1] == pytest.approx(25, abs=0.1)


def test_shares_are_those_of_the_table():
    found = {(share.group, share.name): share for share in shares(measured())}
    assert found["families", "star"].share == pytest.approx(0.75, abs=0.03)
    assert found["modalities", "CT"].wanted == pytest.approx(0.27)
    assert found["difficult objects", "low contrast"].share == pytest.approx(0.3, abs=0.03)
    modalities = [share.share for share in found.values() if share.group == "modalities"]
    assert sum(modalities) == pytest.approx(1)


def test_a_dataset_as_its_preset_asks_gives_no_warning():
    assert warnings(measured()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"modality": np.repeat("CT", 1000)}, ["CT", "MR", "US", "XR", "generic"]),
        ({"contrast": np.full(4000, 3, np.float32)}, ["low contrast"]),
        ({"contrast": np.full(4000, 0.1, np.float32)}, ["low contrast"]),
        ({"blur": np.full(4000, 1, np.float32)}, ["weak edge"]),
    ],
)
def test_a_share_that_is_off_the_preset_is_named(changes, named):
    found = warnings(measured(**changes))
    assert len(found) == len(named)
    assert all(any(name in line for line in found) for name in named)
    assert all("the preset asks for" in line for line in found)


@pytest.mark.parametrize("size", [128, 256, 600, 2048])
def test_objects_without_an_edge_count_as_weak_at_every_size(size):
    blur = np.repeat(np.array([2 * reach(size), 1], np.float32), [1200, 2800])
    found = {share.name: share.share for share in shares(measured(size=size, blur=blur))}
    assert found["weak edge"] == pytest.approx(0.3)


def test_small_images_are_not_asked_for_weak_edges():
    sharp = measured(size=64, blur=np.full(4000, 1, np.float32))
    assert warnings(sharp) == []
    assert {share.name: share.wanted for share in shares(sharp)}["weak edge"] is None


def test_datasets_of_format_1_are_asked_for_what_they_called_their_radiographs():
    config = load_config("full").model_dump(mode="json")
    assert modality_shares(config)["XR"] == pytest.approx(0.25 * 0.16)
    config["modality"] = {"generic": 0.25, "CT": 0.75}
    assert modality_shares(config) == pytest.approx({"generic": 0.25, "CT": 0.75})


def test_a_switched_off_module_asks_for_no_difficult_objects():
    config = load_config("neither").model_dump(mode="json")
    hard = measured(config=config, contrast=np.full(4000, 0.1, np.float32), blur=np.full(4000, 1, np.float32))
    assert [line.split(" is ")[0] for line in warnings(hard)] == ["difficult objects: low contrast"]


def test_a_dataset_without_objects_has_a_page(tmp_path):
    empty = replace(
        measured(10), count=np.zeros(10, int),
        **{name: np.zeros(0) for name in ("area", "contrast", "blur")}, family=np.zeros(0, str),
    )  # fmt: skip
    assert "0 objects" in text_page(empty)
    draw_page(empty, tmp_path / "page.png")


def test_the_page_is_drawn(tmp_path):
    draw_page(measured(), tmp_path / "page.png")
    pixels = np.asarray(Image.open(tmp_path / "page.png"))
    assert (pixels == (62, 117, 168)).all(-1).mean() > 0.02
