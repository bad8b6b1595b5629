"""The contact sheet of volumes: orthogonal cuts and a film strip of each, images above and tracks below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthfm.data.console import InputError
from synthfm.data.folder import check_volumes, shard_paths
from synthfm.data.shards import Sample, Shard
from synthfm.generator.folder.drawing import GREY, INK, PAPER, font, palette

PANEL = 132  # height of a panel in pixels
STRIP = 8  # slices on a strip
GAP, CARD_GAP, CAPTION, HEADER = 3, 18, 22, 62


@dataclass(frozen=True)
class Volume:
    """One volume as it is drawn.

    Attributes
    ----------
    image, track
        uint8 and int32 (D, H, W): grey values, and the track of the innermost object, -1 for none.
    spacing, axis, modality, number
        As the shard has them, and its number in the dataset.
    """

    image: NDArray[np.uint8]
    track: NDArray[np.int32]
    spacing: tuple[float, float, float]
    axis: str
    modality: str
    number: int


def volumes(folder: Path, family: str | None, modality: str | None, skip: set[int]) -> Iterator[Volume]:
    """The volumes of a dataset that match, in order, but those that are skipped."""
    number = -1
    for path in shard_paths([folder]):
        with Shard(path) as shard:
            if problem := check_volumes(shard):
                raise InputError(f"{path}: {problem}")
            for k in range(len(shard.axis)):
                number += 1
                rows = np.flatnonzero(shard.volume == k)
                families = {str(f) for row in rows for f in shard.objects_of(int(row)).family}
                kind = str(shard.modality[rows[0]])
                if number in skip or family not in (None, *families) or modality not in (None, kind):
                    continue
                yield volume_of([shard[int(row)] for row in rows], number)


def volume_of(samples: list[Sample], number: int) -> Volume:
    """A volume from its slices."""
    tracks = []
    for sample in samples:
        table = np.full(256, -1, np.int32)
        table[sample.objects.label] = sample.objects.track
        tracks.append(table[sample.label])
    first = samples[0]
    assert first.slice is not None
    images = np.stack([sample.image for sample in samples])
    return Volume(images, np.stack(tracks), first.slice.spacing, first.slice.axis, first.modality, number)


def count_volumes(folder: Path) -> int:
    """How many volumes a dataset holds; 0 where it is of single images."""
    count = 0
    for path in shard_paths([folder]):
        with Shard(path) as shard:
            count += len(shard.axis)
    return count


def film_sheet(shown: list[Volume], title: str) -> Image.Image:
    """A card for each volume, one below the other."""
    cards = [_card(volume) for volume in shown]
    width = max(card.width for card in cards) + 2 * CARD_GAP
    sheet = Image.new("RGB", (width, HEADER + sum(card.height + CARD_GAP for card in cards)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((CARD_GAP, 12), title, fill=INK, font=font(18))
    axes = "slice in the middle; cuts through the stack at its middle row and column; some slices in order"
    draw.text((CARD_GAP, 40), axes, fill=GREY, font=font(13))
    y = HEADER
    for card in cards:
        sheet.paste(card, (CARD_GAP, y))
        y += card.height + CARD_GAP
    return sheet


def _card(volume: Volume) -> Image.Image:
    coloured = np.where(volume.track[..., None] >= 0, palette()[1 + volume.track % 255], np.uint8(24)).astype(
        np.uint8
    )
    grey = np.repeat(volume.image[..., None], 3, axis=-1)
    lines = [_line(pixels, volume, smooth) for pixels, smooth in ((grey, True), (coloured, False))]
    card = Image.new("RGB", (lines[0].width, CAPTION + 2 * PANEL + GAP), PAPER)
    depth, tracks = len(volume.image), len(np.unique(volume.track)) - bool((volume.track < 0).any())
    apart = "frames" if volume.axis == "t" else f"slices {volume.spacing[0]:.1f} px apart"
    text = f"#{volume.number}  {volume.modality}  {depth} {apart}  {tracks} tracks"
    ImageDraw.Draw(card).text((0, 2), text, fill=INK, font=font(14))
    for row, line in enumerate(lines):
        card.paste(line, (0, CAPTION + row * (PANEL + GAP)))
    return card


def _line(pixels: NDArray[np.uint8], volume: Volume, smooth: bool) -> Image.Image:
    """The middle slice, the two cuts through the stack, and slices from the first to the last."""
    depth, height, width, _ = pixels.shape
    tall = max(1, round(depth * volume.spacing[0])) if volume.axis == "z" else max(depth, width // 2)
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    panels = [_fit(pixels[depth // 2], (width, height), how)]
    panels += [
        _fit(pixels[:, height // 2], (width, tall), how),
        _fit(pixels[:, :, width // 2], (height, tall), how),
    ]
    panels += [
        _fit(pixels[k], (width, height), how) for k in np.linspace(0, depth - 1, STRIP).round().astype(int)
    ]
    line = Image.new("RGB", (sum(panel.width + GAP for panel in panels) + 2 * GAP, PANEL), PAPER)
    x = 0
    for k, panel in enumerate(panels):
        line.paste(panel, (x, 0))
        x += panel.width + GAP + (2 * GAP if k == 2 else 0)
    return line


def _fit(pixels: NDArray[np.uint8], size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """A cut of so many pixels wide and high, on a panel of its own proportions within a square."""
    scale = PANEL / max(size)
    shown = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), how
    )
    panel = Image.new("RGB", (PANEL, PANEL), PAPER)
    panel.paste(shown, ((PANEL - shown.width) // 2, (PANEL - shown.height) // 2))
    return panel
