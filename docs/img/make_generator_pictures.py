"""Makes the pictures of docs/generator.md: ``python docs/img/make_generator_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import perimeter
from skimage.segmentation import clear_border

from synthfm.data.shards import Sample, object_masks
from synthfm.generator.canvas import outlines, shapes
from synthfm.generator.config import GeneratorConfig, load_config
from synthfm.generator.folder.film import film_sheet, volume_of
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume

HERE = Path(__file__).parent
COLOURS = np.random.default_rng(4).integers(70, 255, (256, 3), dtype=np.uint8)


def families() -> Image.Image:
    """Eight draws of every family, two families a line."""
    cell, draws = 56, 8
    names = list(shapes.FAMILIES)
    sheet = Image.new("L", (2 * (draws * cell + 90), (len(names) + 1) // 2 * cell), 255)
    pen = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        rng = np.random.default_rng(k)
        x, y = k % 2 * (draws * cell + 90), k // 2 * cell
        pen.text((x + 4, y + cell // 2 - 6), name, 0)
        for i in range(draws):
            shape = shapes.make(name, shapes.FAMILIES[name].draw(rng))
            placed = outlines.place(shape, (cell / 2, cell / 2), cell * 0.42, rng.uniform(0, 6.3))
            mask, top, left = outlines.rasterise(placed, cell)
            sheet.paste(70, (x + 90 + i * cell + left, y + top), Image.fromarray(mask * 255))
    return sheet


def samples(config: GeneratorConfig, columns: int, rows: int, seed: int = 11) -> Image.Image:
    """Images beside their label maps."""
    size = config.size
    sheet = np.full((rows * size, columns * 2 * size, 3), 255, np.uint8)
    for k in range(rows * columns):
        sample = make_sample(config, seed, k)
        y, x = k // columns * size, k % columns * 2 * size
        sheet[y : y + size, x : x + size] = sample.image[..., None]
        sheet[y : y + size, x + size : x + 2 * size] = COLOURS[sample.label] * (sample.label > 0)[..., None]
    return Image.fromarray(sheet)


def objects(size: int = 128) -> Image.Image:
    """Two images of each plan of the preset `objects`: the image, its labels, and one of its sets in red."""
    names = ("angiogram", "capillaries", "cells", "teeth", "rows", "gyri", "cord", "walls")
    sheet = np.full((len(names) * size, 6 * size, 3), 255, np.uint8)
    full = load_config("objects")
    for row, plan in enumerate(names):
        keys = [
            f"shapes.plans.generic.{name}={int(name == plan)}" for name in full.plans("generic").items()[0]
        ]
        keys += [f"modality.{name}={int(name == 'generic')}" for name in full.modality.items()[0]]
        config, shown, index = load_config("objects", keys, size=size), 0, 0
        while shown < 2:
            sample, index = make_sample(config, 21, index), index + 1
            table = sample.objects
            sets = np.flatnonzero(table.is_set & (table.contrast > 0.8))
            if not len(sets):
                continue
            chosen = sets[int(np.argmax(table.area[sets]))]
            mask = object_masks(sample.label, table)[chosen]
            tinted = np.repeat(sample.image[..., None], 3, 2)
            tinted[mask] = tinted[mask] // 2 + np.array([127, 20, 20], np.uint8)
            labels = COLOURS[sample.label] * (sample.label > 0)[..., None]
            place = np.s_[row * size : (row + 1) * size, 3 * shown * size : 3 * (shown + 1) * size]
            sheet[place] = np.concatenate([np.repeat(sample.image[..., None], 3, 2), labels, tinted], 1)
            shown += 1
    return Image.fromarray(sheet)


TRAITS: dict[str, tuple[str, ...]] = {
    "ragged": (),
    "scatter": (),
    "wall": ("shell", "inside"),
    "zones": ("rim", "core"),
    "hollow": ("hollow",),
    "group": ("kidneys", "lungs", "lesions", "ventricles", "vertebrae", "bowel", "chambers"),
}
"""The traits of a scene, and the families of the objects that they make."""


def _roughness(mask: NDArray[np.bool_]) -> float:
    """Length of an outline over that of the smoothed one."""
    smooth = ndimage.gaussian_filter(mask.astype(float), np.sqrt(mask.sum()) / 10) > 0.5
    return float(perimeter(mask) / max(perimeter(smooth), 1))


def traits(size: int = 128) -> Image.Image:
    """Images of `demo` with one trait turned fully on: image, labels, and in red what the trait makes."""
    sheet = Image.new("RGB", (6 * size, len(TRAITS) * (size + 16)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, wanted) in enumerate(TRAITS.items()):
        pen.text((4, row * (size + 16) + 2), f"shapes.{name}_share", "black")
        config, shown, index = load_config("demo", [f"shapes.{name}_share=1"], size=size), 0, 0
        while shown < 2:
            sample, index = make_sample(config, 31, index), index + 1
            table = sample.objects
            masks = object_masks(sample.label, table)
            fits = (table.contrast > 1) & (table.area > size**2 // 60) & (table.area < size**2 // 3)
            fits &= np.array([clear_border(mask).sum() == mask.sum() for mask in masks], bool)
            if name == "scatter":
                fits = np.array([ndimage.label(mask)[1] > 3 for mask in masks])
            if name == "ragged":
                fits &= np.array([_roughness(mask) > 1.4 for mask in masks], bool)
            rows = np.flatnonzero(fits & (np.isin(table.family, wanted) if wanted else ~table.is_set))
            if not len(rows):
                continue
            mask = masks[rows[int(np.argmax(table.area[rows]))]]
            image = np.repeat(sample.image[..., None], 3, 2)
            tinted = np.where(mask[..., None], image // 2 + np.array([127, 20, 20], np.uint8), image)
            labels = COLOURS[sample.label] * (sample.label > 0)[..., None]
            three = Image.fromarray(np.concatenate([image, labels, tinted], 1))
            sheet.paste(three, (3 * shown * size, row * (size + 16) + 16))
            shown += 1
    return sheet


def volumes() -> Image.Image:
    """Cuts and film strips of some volumes."""
    wanted = [("volumes_ct", 7, 6), ("volumes_ct", 7, 4), ("volumes_mr", 7, 5), ("volumes_mr", 7, 4)]
    shown = []
    for preset, seed, number in wanted:
        config = load_config(preset, ["volume.depth=32", "volume.spacing=[2, 5]"])
        shown.append(volume_of(make_volume(config, seed, number), number))
    cine = load_config("volumes_cine", ["volume.depth=16"])
    shown.append(volume_of(make_volume(cine, 3, 4), 4))
    sheet = film_sheet(shown, "volumes_ct, volumes_mr, volumes_cine")
    return sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.Resampling.LANCZOS)


def kinds_through(size: int = 128, count: int = 10) -> Image.Image:
    """Walls that open and close and sets through volumes: some slices of a track a row, it in red."""
    rows = [("shell", 4), ("lumen", 1), ("kidneys", 1), ("lungs", 1)]
    traits = {"wall_share": 0.5, "hollow_share": 0.5, "group_share": 1}
    keys = [f"shapes.{name}={share}" for name, share in traits.items()]
    keys += ["volume.depth=28", "volume.cine_share=0", "volume.open_share=1", "shapes.plans.CT.walls=0.3"]
    config, strips, number = load_config("volumes_ct", keys, size=size), [], 0
    while rows:
        volume, number = make_volume(config, 17, number), number + 1
        tracks: dict[int, list[int]] = {}
        families: dict[int, str] = {}
        largest: dict[int, int] = {}
        for k, sample in enumerate(volume):
            table = sample.objects
            for track, family, area in zip(table.track.tolist(), table.family, table.area, strict=True):
                tracks.setdefault(track, []).append(k)
                families[track] = str(family)
                largest[track] = max(largest.get(track, 0), int(area))
        for name, left in list(rows):
            fits = [t for t in tracks if families[t] == name and len(tracks[t]) > 9]
            fits = [t for t in fits if size**2 / 60 < largest[t] < size**2 / 3]
            if fits:
                strips.append(_strip(volume, max(fits, key=largest.__getitem__), tracks, count))
                rows.remove((name, left))
                rows += [(name, left - 1)] if left > 1 else []
                break
    return Image.fromarray(np.concatenate(strips))


def _strip(volume: list[Sample], track: int, tracks: dict[int, list[int]], count: int) -> NDArray[np.uint8]:
    """Some slices of a track from its first to its last, it in red."""
    cells = []
    for k in np.linspace(tracks[track][0], tracks[track][-1], count).round().astype(int).tolist():
        sample = volume[k]
        mask = object_masks(sample.label, sample.objects)[sample.objects.track.tolist().index(track)]
        image = np.repeat(sample.image[..., None], 3, 2)
        cells.append(np.where(mask[..., None], image // 2 + np.array([127, 20, 20], np.uint8), image))
    return np.concatenate(cells, 1).astype(np.uint8)


if __name__ == "__main__":
    kinds_through().quantize(96).save(HERE / "generator_kinds_through.png", optimize=True)
    volumes().quantize(96).save(HERE / "generator_volumes.png", optimize=True)
    objects().quantize(128).save(HERE / "generator_objects.png", optimize=True)
    traits().quantize(128).save(HERE / "generator_traits.png", optimize=True)
    families().save(HERE / "generator_families.png", optimize=True)
    pictures = [("full", 4, 4), ("ct", 4, 3), ("mr", 4, 3), ("us", 4, 3), ("xr", 4, 3), ("oct", 4, 3)]
    pictures += [(name, 4, 2) for name in ("shape_only", "boundary_only", "neither")]
    for preset, columns, rows in pictures:
        picture = samples(load_config(preset, size=128), columns, rows).quantize(128)
        picture.save(HERE / f"generator_{preset}.png", optimize=True)
    config = GeneratorConfig()
    tiles = [
        f"shapes.plans.generic.{name}={int(name == 'tiles')}" for name in config.plans("generic").items()[0]
    ]
    generic = [f"modality.{name}={int(name == 'generic')}" for name in config.modality.items()[0]]
    picture = samples(load_config("full", [*tiles, *generic], size=128), 4, 1).quantize(128)
    picture.save(HERE / "generator_partitions.png", optimize=True)
