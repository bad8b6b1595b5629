"""The contact sheet: samples as image, label map and prompts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthfm.data.console import InputError
from synthfm.data.folder import Manifest, read_manifest, shard_paths
from synthfm.data.shards import Sample, Shard, members_of
from synthfm.generator.folder.drawing import (
    GREY,
    INK,
    LOOSE,
    NEGATIVE,
    PAPER,
    POSITIVE,
    TIGHT,
    check_png,
    dashed,
    font,
    palette,
    save_png,
)
from synthfm.generator.folder.film import Volume, count_volumes, film_sheet, volumes
from synthfm.generator.modalities import MODALITIES

PANEL = 200  # side of a panel in pixels
SMOOTH = 3  # prompts are drawn this many times larger, then reduced, for smooth lines
GAP, CARD_GAP, CAPTION, HEADER = 3, 22, 24, 62
COLUMNS = 3
MOST = 600  # samples; larger sheets are no longer looked at
MOST_VOLUMES = 12


@dataclass(frozen=True)
class Shown:
    """A sample on the sheet, and the row of the object whose prompts are drawn."""

    sample: Sample
    row: int


def contact_sheet(
    folder: Path, out: Path, *, count: int = 30, family: str | None = None, modality: str | None = None
) -> int:
    """Draw `count` samples of a dataset into a PNG; returns how many there were to draw.

    Of a dataset of volumes as many volumes are drawn, :data:`MOST_VOLUMES` at most, as orthogonal cuts and a
    film strip.

    Without a filter the samples are spread over the whole dataset; with one they are the first that match,
    and the prompts are those of a matching object.

    Raises
    ------
    InputError
        If the folder is no finished dataset, or nothing in it matches; it says what there is.
    """
    check_png(out)
    if not 1 <= count <= MOST:
        raise InputError(f"--count {count}: from 1 to {MOST}")
    if modality is not None and modality not in MODALITIES:
        raise InputError(f"--modality {modality!r}: one of {', '.join(MODALITIES)}")
    manifest = read_manifest(folder)
    if total := count_volumes(folder):
        chosen = _volumes(folder, min(count, MOST_VOLUMES), total, family, modality)
        title = f"{folder.resolve().name}: {len(chosen)} of {total} volumes, {manifest.num} slices"
        save_png(film_sheet(chosen, title), out)
        return len(chosen)
    if family is None and modality is None:
        shown = list(_spread(folder, manifest, count))
    else:
        shown = _matching(folder, count, family, modality)
    save_png(_sheet(shown, folder, manifest), out)
    return len(shown)


def _volumes(folder: Path, count: int, total: int, family: str | None, modality: str | None) -> list[Volume]:
    """Volumes spread over the dataset, or the first that match."""
    skip: set[int] = set()
    if family is None and modality is None:
        skip = set(range(total)) - set(np.linspace(0, total - 1, count).astype(int).tolist())
    chosen = list(itertools.islice(volumes(folder, family, modality, skip), count))
    if not chosen:
        raise InputError(f"{folder}: none of its {total} volumes has {_asked(family, modality)}")
    return chosen


def _asked(family: str | None, modality: str | None) -> str:
    pairs = (("family", family), ("modality", modality))
    return " and ".join(f"{name} {value!r}" for name, value in pairs if value)


def _spread(folder: Path, manifest: Manifest, count: int) -> Iterator[Shown]:
    wanted = np.unique(np.linspace(0, manifest.num - 1, count).astype(int))
    for path, line in zip(shard_paths([folder]), manifest.shards, strict=True):
        here = wanted[(wanted >= line.first_index) & (wanted < line.first_index + line.count)]
        if len(here):
            with Shard(path) as shard:
                for index in here:
                    sample = shard[int(index) - line.first_index]
                    yield Shown(sample, _row_to_show(sample, np.arange(len(sample.objects))))


def _matching(folder: Path, count: int, family: str | None, modality: str | None) -> list[Shown]:
    shown: list[Shown] = []
    families: set[str] = set()
    modalities: set[str] = set()
    for path in shard_paths([folder]):
        with Shard(path) as shard:
            families.update(shard.objects.family)
            modalities.update(shard.modality)
            for position in range(len(shard)):
                rows = shard.objects_of(position).family
                fits = np.flatnonzero(rows == family) if family is not None else np.arange(len(rows))
                if modality in (None, shard.modality[position]) and len(fits):
                    sample = shard[position]
                    shown.append(Shown(sample, _row_to_show(sample, fits)))
                    if len(shown) == count:
                        return shown
    if not shown:
        raise InputError(
            f"{folder}: no sample with {_asked(family, modality)}; "
            f"there are families {', '.join(sorted(families))}; "
            f"modalities {', '.join(sorted(modalities))}"
        )
    return shown


def _row_to_show(sample: Sample, rows: NDArray) -> int:
    """One of the larger half of the rows, by the sample's number: not always the same kind of object.

    -1 if there is none.
    """
    if not len(rows):
        return -1
    larger = rows[np.argsort(-sample.objects.area[rows], kind="stable")][: (len(rows) + 1) // 2]
    return int(larger[sample.index % len(larger)])


def _sheet(shown: list[Shown], folder: Path, manifest: Manifest) -> Image.Image:
    columns = min(COLUMNS, len(shown))
    wide, high = 3 * PANEL + 2 * GAP, PANEL + CAPTION
    lines = -(-len(shown) // columns)
    width = columns * (wide + CARD_GAP) + CARD_GAP
    sheet = Image.new("RGB", (width, HEADER + lines * (high + CARD_GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, folder, manifest, len(shown))
    for number, item in enumerate(shown):
        line, column = divmod(number, columns)
        x, y = CARD_GAP + column * (wide + CARD_GAP), HEADER + line * (high + CARD_GAP)
        for place, panel in enumerate(_panels(item)):
            sheet.paste(panel, (x + place * (PANEL + GAP), y + CAPTION))
        draw.text((x, y + 3), _caption(item), fill=INK, font=font(14))
    return sheet


def _draw_header(draw: ImageDraw.ImageDraw, folder: Path, manifest: Manifest, count: int) -> None:
    name = folder.resolve().name
    text = f"{name}: {count} of {manifest.num} samples, {manifest.config.get('size', '?')} pixels"
    draw.text((CARD_GAP, 12), text, fill=INK, font=font(18))
    x, y = CARD_GAP, 44
    _dot(draw, (x + 5, y), 5, POSITIVE)
    draw.text((x + 16, y), "positive", fill=GREY, font=font(13), anchor="lm")
    _cross(draw, (x + 85, y), 5, NEGATIVE, 2)
    draw.text((x + 96, y), "negative", fill=GREY, font=font(13), anchor="lm")
    draw.rectangle((x + 168, y - 6, x + 184, y + 6), outline=(214, 165, 0), width=2)
    draw.text((x + 190, y), "tight box", fill=GREY, font=font(13), anchor="lm")
    dashed(draw, (x + 262, y - 6, x + 280, y + 6), LOOSE, 2, 4)
    draw.text((x + 286, y), "drawn box", fill=GREY, font=font(13), anchor="lm")


def _caption(item: Shown) -> str:
    sample, objects = item.sample, item.sample.objects
    text = f"#{sample.index}  {sample.modality}  {len(objects)} objects"
    if item.row < 0:
        return text
    return (
        f"{text}   |   {objects.family[item.row]}  {objects.area[item.row]} px  "
        f"contrast {objects.contrast[item.row]:.1f}  edge {objects.blur[item.row]:.1f} px"
    )


def _panels(item: Shown) -> list[Image.Image]:
    sample = item.sample
    grey = Image.fromarray(sample.image).convert("RGB")
    image = _fit(grey, PANEL, Image.Resampling.BICUBIC)
    labels = _fit(Image.fromarray(_coloured(sample.label)), PANEL * SMOOTH, Image.Resampling.NEAREST)
    prompts = _fit(grey, PANEL * SMOOTH, Image.Resampling.BICUBIC)
    if item.row >= 0:
        _draw_prompts(prompts, item)
    small = [panel.resize(image.size, Image.Resampling.LANCZOS) for panel in (labels, prompts)]
    return [image, *small]


def _fit(image: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    scale = side / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), how)


def _coloured(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(label[..., None] > 0, palette()[label], np.uint8(24)).astype(np.uint8)


def _draw_prompts(panel: Image.Image, item: Shown) -> None:
    """The object's outline and tint, its strokes, boxes and clicks, onto an enlarged image."""
    objects, row = item.sample.objects, item.row
    scale = panel.width / item.sample.image.shape[1]
    mask = members_of(objects)[row][item.sample.label]
    large = Image.fromarray(mask.astype(np.uint8) * 90).resize(panel.size, Image.Resampling.NEAREST)
    panel.paste(Image.new("RGB", panel.size, tuple(palette()[objects.label[row]])), mask=large)
    draw = ImageDraw.Draw(panel)
    for stroke in objects.strokes[row]:
        for x, y in (stroke.pixels * scale).tolist():
            pixel = (x, y, x + max(scale - 1, 0), y + max(scale - 1, 0))
            draw.rectangle(pixel, fill=POSITIVE if stroke.inside else NEGATIVE)
    # A box's edges are between pixels, whose centres are whole numbers: x0 = 0 is the frame's left edge.
    x0, y0, x1, y1 = (float(value) * scale for value in objects.box[row])
    draw.rectangle([x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)], outline=TIGHT, width=SMOOTH)
    dashed(draw, [float(value) * scale for value in objects.box_loose[row]], LOOSE, SMOOTH, 5 * SMOOTH)
    radius = SMOOTH * float(np.clip(0.05 * scale / SMOOTH * np.sqrt(objects.area[row]), 1.8, 3.4))
    for (x, y), kind in zip(objects.points[row], objects.point_labels[row], strict=True):
        centre = ((float(x) + 0.5) * scale, (float(y) + 0.5) * scale)
        if kind == 1:
            _dot(draw, centre, radius, POSITIVE)
        elif kind == 0:
            _cross(draw, centre, radius, NEGATIVE, int(0.6 * radius))


def _dot(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: tuple[int, int, int]
) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=INK)


def _cross(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    x, y = centre
    draw.line((x - radius, y - radius, x + radius, y + radius), fill=colour, width=width)
    draw.line((x - radius, y + radius, x + radius, y - radius), fill=colour, width=width)
