"""The contact sheet: which samples and which prompts are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthfm.data.console import InputError
from synthfm.data.folder import Manifest, describe_shard, read_manifest, write_manifest
from synthfm.data.prompts import tight_box
from synthfm.data.shards import StoredStroke, column_of, object_masks
from synthfm.generator.folder import preview
from synthfm.generator.folder.drawing import NEGATIVE, POSITIVE, TIGHT, palette
from tests.support.shards import random_sample, random_samples, write_shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    samples = random_samples(0, 30)
    lines = []
    for k in range(3):
        path = write_shard(folder / f"shard-0000{k}.h5", samples[10 * k : 10 * k + 10], first_index=10 * k)
        lines.append(describe_shard(path))
    write_manifest(folder, Manifest({"size": 24}, "1.2", 7, 30, 10, tuple(lines)))
    return folder


def test_without_a_filter_the_samples_are_spread_over_the_dataset(folder):
    shown = list(preview._spread(folder, read_manifest(folder), 4))
    assert [item.sample.index for item in shown] == [0, 9, 19, 29]
    assert len(list(preview._spread(folder, read_manifest(folder), 500))) == 30


def test_filters_keep_what_they_name(folder, tmp_path):
    shown = preview._matching(folder, 100, "family2", None)
    assert shown
    assert all(item.sample.objects.family[item.row] == "family2" for item in shown)
    both = preview._matching(folder, 100, "family0", "CT")
    assert both
    assert all(item.sample.modality == "CT" for item in both)
    assert len(preview._matching(folder, 2, "family0", None)) == 2
    with pytest.raises(InputError, match=r"no sample with family 'nix'; there are families family0, family1"):
        preview.contact_sheet(folder, tmp_path / "a.png", family="nix")


def test_a_thin_object_in_a_large_image_is_drawn():
    """Its box is narrower than a pixel of the picture."""
    sample = random_sample(np.random.default_rng(0), 0, (1400, 1400))
    sample.objects.box[0] = [5, 5, 6, 1200]
    assert len(preview._panels(preview.Shown(sample, 0))) == 3


def test_the_prompts_are_drawn_where_the_table_says(folder):
    item = next(
        item
        for item in preview._matching(folder, 100, "family0", None)
        if item.sample.objects.area[item.row] > 40 and (item.sample.objects.point_labels[item.row] == 0).any()
    )
    image, labels, prompts = (np.asarray(panel).astype(int) for panel in preview._panels(item))
    scale = preview.PANEL / 24
    assert image.shape == labels.shape == prompts.shape == (round(20 * scale), preview.PANEL, 3)
    for (x, y), kind in zip(item.sample.objects.points[item.row], item.sample.objects.point_labels[item.row],
                            strict=True):  # fmt: skip
        if kind >= 0:
            found = prompts[int((y + 0.5) * scale), int((x + 0.5) * scale)]
            assert np.abs(found - (POSITIVE if kind else NEGATIVE)).max() < 90
    yellow = np.abs(prompts - TIGHT).max(-1) < 60
    mask = object_masks(item.sample.label, item.sample.objects)[item.row]
    drawn = tight_box(yellow)
    assert np.abs(drawn / scale - tight_box(mask)).max() < 0.5
    label = item.sample.label[10, 12]
    assert (labels[int(10.5 * scale), int(12.5 * scale)] == (palette()[label] if label else 24)).all()


def test_strokes_are_drawn_in_the_colours_of_clicks():
    sample = random_sample(np.random.default_rng(3), 0)
    mask = object_masks(sample.label, sample.objects)[0]
    places = {True: np.argwhere(mask)[-1], False: np.argwhere(~mask)[-1]}
    marks = tuple(StoredStroke(on, place[None, ::-1].astype(np.int16)) for on, place in places.items())
    strokes = column_of([marks] + [()] * (len(sample.objects) - 1))
    hidden = np.full_like(sample.objects.point_labels, -1)
    objects = replace(sample.objects, strokes=strokes, point_labels=hidden)
    *_, prompts = preview._panels(preview.Shown(replace(sample, objects=objects), 0))
    scale = preview.PANEL / 24
    for on, (y, x) in places.items():
        found = np.asarray(prompts).astype(int)[int((y + 0.5) * scale), int((x + 0.5) * scale)]
        assert np.abs(found - (POSITIVE if on else NEGATIVE)).max() < 30


def test_the_colours_of_a_dozen_labels_can_be_told_apart():
    colours = palette().astype(int)
    for first in range(1, 60):
        some = colours[first : first + 12]
        distances = np.abs(some[:, None] - some[None]).sum(-1)
        assert distances[~np.eye(12, dtype=bool)].min() > 40
