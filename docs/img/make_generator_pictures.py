"""Makes the pictures of docs/generator.md: ``python docs/img/make_generator_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

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


if __name__ == "__main__":
    volumes().quantize(96).save(HERE / "generator_volumes.png", optimize=True)
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
