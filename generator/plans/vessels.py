"""Plans of vessels: trees that cross, nets of capillaries, and what lies among them."""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import shapes, slender
from synthfm.generator.canvas.layout import LESIONS, TISSUES, Canvas
from synthfm.generator.canvas.outlines import Branch
from synthfm.generator.plans.tools import plan


@plan(zoom=(0.9, 1.4))
def angiogram(canvas: Canvas) -> None:
    """Vessels over a patchy ground: trees that grow from a disc or from beyond the frame, and cross.

    Arteries and veins are an object each, and one together; widths are from about two pixels to twenty.
    """
    rng = canvas.rng
    thinnest = rng.uniform(0.7, 1.3) / canvas.section.view.scale
    disc = canvas.near(rng.choice([-1, 1]) * rng.uniform(0.0, 1.1), 0, 0.2)
    spots = [(canvas.near(*disc, 0.02), canvas.turn())]
    if canvas.chance(0.55):  # from beyond the frame
        spots = []
        for _ in range(int(rng.integers(2, 7))):
            way = canvas.turn()
            aim = way + np.pi + rng.normal(0, 0.5)
            spots.append(((1.25 * np.cos(way), 1.25 * np.sin(way)), aim))
    systems = int(rng.integers(1, 3))
    same = canvas.pick(("blood", "vein", "lesion", "septum", "fluid"))
    for _ in range(systems):
        branches: list[Branch] = []
        wide = thinnest * np.exp(rng.uniform(np.log(1.2), np.log(9)))
        for spot, aim in spots:
            trunks = int(rng.integers(2, 6)) if len(spots) == 1 else 1
            for k in range(trunks):
                heading = aim + 2 * np.pi * k / trunks + rng.normal(0, 0.35)
                at = canvas.near(*spot, 0.02 if len(spots) == 1 else 0.2)
                reach = rng.uniform(0.7, 1.9)
                branches += slender.vessel_tree(rng, at, heading, reach, wide * rng.uniform(0.6, 1), thinnest)
        tissue = same if canvas.chance(0.6) else canvas.pick(("blood", "vein"))
        number = canvas.put(slender.tubes(branches[:140]), (0, 0), 1, tissue=tissue, least=0.05)
        canvas.note("vessels", number)
    if canvas.chance(0.2):
        _net(canvas, thinnest, same)
    if canvas.chance(0.4):
        canvas.put("ellipse", disc, rng.uniform(0.1, 0.25), tissue=canvas.pick(("bone", "fat", "organ")))
    ground(canvas)


@plan(zoom=(0.9, 1.4))
def capillaries(canvas: Canvas) -> None:
    """A net of small vessels, with larger ones before it, around a place without any."""
    rng = canvas.rng
    thinnest = rng.uniform(0.7, 1.1) / canvas.section.view.scale
    if canvas.chance(0.5):
        branches = []
        for _ in range(int(rng.integers(1, 5))):
            way = canvas.turn()
            at = (1.2 * np.cos(way), 1.2 * np.sin(way))
            aim = way + np.pi + rng.normal(0, 0.5)
            branches += slender.vessel_tree(rng, at, aim, rng.uniform(0.8, 1.8), 4 * thinnest, thinnest)
        canvas.note("vessels", canvas.put(slender.tubes(branches), (0, 0), 1, tissue="blood", least=0.05))
    if canvas.chance(0.5):
        shape, size = shapes.draw("star", rng), rng.uniform(0.15, 0.4)
        canvas.put(shape, canvas.near(0, 0, 0.2), size, canvas.turn(), tissue=canvas.pick(TISSUES))
    _net(canvas, thinnest, "blood")
    ground(canvas)


def _net(canvas: Canvas, thinnest: float, tissue: str) -> None:
    rng = canvas.rng
    radius = thinnest * np.exp(rng.uniform(0, 1.1))
    branches = slender.net(rng, int(np.exp(rng.uniform(np.log(14), np.log(110)))), radius, thinnest)
    if branches:
        shape = slender.tubes(branches, "net")
        number = canvas.put(shape, canvas.near(0, 0, 0.1), 1, canvas.turn(), tissue=tissue, least=0.05)
        canvas.note("vessels", number)


def ground(canvas: Canvas) -> None:
    """What lies behind: spots, some of them objects, and a patchy ground that is none."""
    rng = canvas.rng
    canvas.fill(0, int(rng.poisson(1.5)), LESIONS, TISSUES, (0.05, 0.4), 0.5)
    if canvas.chance(0.6):
        canvas.partition(0, int(rng.integers(2, 7)), TISSUES, 0.0, warp=0.15)
