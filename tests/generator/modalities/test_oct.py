"""Optical coherence tomography: layers in their order, the pit, shadows, speckle; and that it is one file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from synthfm import generator
from synthfm.generator.config import load_config
from synthfm.generator.look.appearance import render
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.modalities.oct import _LAYERS, OCTScan

CONFIG = load_config(
    "oct", ["boundary.gap_share=0", "shapes.crop_share=0", "shapes.max_objects=60"], size=192
)
QUIET = {"dynamic_range": 40.0, "axial": 1.0, "lateral": 1.0, "roll_off": 0.0, "floor": -1.0, "seed": 1}


@pytest.fixture(scope="module")
def sections(section_of):
    return [section_of(CONFIG, "OCT", "retina", np.random.default_rng(seed)) for seed in range(30)]


def test_the_layers_lie_in_their_order_from_the_vitreous_down(sections):
    order = {tissue: k for k, (tissue, _, _) in enumerate(_LAYERS)}
    for section in sections:
        tissues = {region.number: order.get(region.tissue, -1) for region in section.regions.values()}
        tissues |= {region.number: -1 for region in section.regions.values() if region.family != "band"}
        lookup = np.array([tissues.get(number, -1) for number in range(256)])
        for column in lookup[section.region][:, ::8].T:
            assert (np.diff(column[column > 0]) >= 0).all()


def test_the_inner_layers_end_in_the_pit(sections):
    """In three of four retinas the ganglion cells thin out somewhere to nothing, between thick shoulders."""
    found = 0
    for section in sections:
        layer = next((r for r in section.regions.values() if r.tissue == "ganglion"), None)
        thick = np.zeros(192) if layer is None else layer.mask.sum(0)
        found += len(thick) > 100 and thick[20:-20].min() <= 1 and thick.max() > 8
    assert 12 <= found <= 28


def test_vessels_throw_a_shadow_that_goes_down_to_the_sclera(sections, look_of):
    behind, beside = [], []
    for seed, section in enumerate(sections):
        vessels = [r for r in section.regions.values() if r.tissue == "vessel"]
        if not vessels:
            continue
        loss = {"vessel": 1.0}
        scan = OCTScan(looks=4, attenuation=loss, opacity=np.zeros(12, np.float32), **QUIET)
        look = look_of(section, "OCT", CONFIG, np.random.default_rng(seed))
        clean = np.full_like(render(section, look), 0.8)
        image, _ = scan.acquire(clean, section, look)
        below = np.zeros(192, bool)
        for vessel in vessels:
            below[vessel.left : vessel.left + vessel.mask.shape[1]] = True
        behind.append(image[-20:, below].mean())
        beside.append(image[-20:, ~below].mean())
    assert len(behind) > 8
    assert np.mean(behind) < np.mean(beside) - 0.05


@pytest.mark.parametrize("looks", [1, 4])
def test_speckle_of_averaged_frames_is_gamma_distributed(sections, look_of, looks):
    """The mean of n exponential intensities has a contrast of 1 / sqrt(n)."""
    section = sections[0]
    look = look_of(section, "OCT", CONFIG, np.random.default_rng(0))
    none = dict.fromkeys([r.tissue for r in section.regions.values()], 0.0)
    scan = OCTScan(looks=looks, attenuation=none, opacity=np.zeros(12, np.float32), **QUIET)
    image, _ = scan.acquire(np.full((192, 192), 0.5, np.float32), section, look)
    intensity = 10 ** ((image.astype(float) - 1) * scan.dynamic_range / 10)
    inner = intensity[20:-20, 20:-20]
    assert inner.std() / inner.mean() == pytest.approx(1 / np.sqrt(looks), rel=0.1)


def test_a_modality_is_one_file_and_a_preset():
    """And where presets mix all of them."""
    assert "OCT" in MODALITIES
    folder = Path(generator.__file__).parent
    naming = [path for path in folder.rglob("*.*") if path.suffix in (".py", ".yaml")]
    naming = [path.name for path in naming if re.search(r"\boct\b", path.read_text(), re.IGNORECASE)]
    assert sorted(naming) == ["objects.yaml", "oct.py", "oct.yaml", "vessels.yaml"]
