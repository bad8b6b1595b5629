"""What several of the generator's tests start from."""

from __future__ import annotations

import numpy as np
import pytest

from synthfm.generator import scene
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.section import Section
from synthfm.generator.canvas.view import View, draw_displacement
from synthfm.generator.look.appearance import draw_look
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.plans.tools import PLANS


@pytest.fixture(scope="session")
def canvas_of():
    """An empty canvas of a size, whose frame is two units wide."""

    def make(size=128, seed=0, **keys):
        rng = np.random.default_rng(seed)
        view = View(size / 2, (0.0, 0.0), 0.0, 1, size, draw_displacement(rng, size, 0.0))
        return Canvas(Section(view), rng, **keys)

    return make


@pytest.fixture(scope="session")
def section_of():
    """What the frame shows of a scene of a modality and a plan."""

    def make(config, modality, plan, rng):
        return scene.draw_scene(config, MODALITIES[modality], PLANS[plan], rng)[1]

    return make


@pytest.fixture(scope="session")
def look_of():
    """What the regions of a section look like under a modality."""

    def make(section, modality, config, rng):
        physical = bool(rng.random() < config.appearance.physical_share)
        return draw_look(section, MODALITIES[modality].draw_palette(rng, physical), config, rng)

    return make
