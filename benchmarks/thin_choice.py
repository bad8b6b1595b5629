"""When the network for thin objects is believed, on synthetic images: ``python benchmarks/thin_choice.py``.

Asks `tiny` with and without it on held-out images of some presets, and prints the mean Dice without it, with
it where :class:`synthfm.trainer.model.thin.ThinObjects` believes it, and with the better of both each time.
"""

from __future__ import annotations

import click
import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import Prompt
from synthfm.data.shards import object_masks
from synthfm.evaluation.cases.prompting import Key, make_prompt
from synthfm.evaluation.scoring.metrics import overlap
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models, second_look, thin
from synthfm.trainer.model.predict import SecondLook, Segmenter

SETTINGS = (
    "box",
    "box_loose",
    "point1",
    "point1_person",
    "points:5",
    "points:20",
    "scribble:1",
    "scribble:3",
)


def dice(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Of two masks."""
    return overlap(int(mask.sum()), int(found.sum()), int((mask & found).sum()))[0]


def scores_of(
    segmenter: Segmenter, preset: str, images: int, objects: int
) -> list[tuple[float, float, float]]:
    """Of each prompt the Dice without the network, where it is believed with it, and of the better one."""
    config, rng, found = load_config(preset, ["prompts.strokes=0"], size=256), np.random.default_rng(0), []
    for index in range(images):
        sample = make_sample(config, 20261130, index)
        masks = object_masks(sample.label, sample.objects)
        encoding = segmenter.encode(sample.image)
        for row in rng.permutation(len(masks))[:objects]:
            prompts: list[Prompt] = [
                make_prompt(masks[row], Key(preset, str(index), str(row), name), 0) for name in SETTINGS
            ]
            for prompt, one in zip(prompts, segmenter.predict(encoding, prompts), strict=True):
                without = dice(one.mask, masks[row])
                drawn = thin.drawn(segmenter.sam.thin, sample.image, prompt, thin.SHIPPED.side)
                own = 0.0 if drawn is None else dice((drawn > 0).numpy(), masks[row])
                said = np.ones(len(prompt.points), bool)
                believed = second_look.or_thin(segmenter.sam, one, sample.image, prompt, said) is not one
                found.append((without, own if believed else without, max(own, without)))
    return found


@click.command()
@click.option("--preset", "presets", multiple=True, default=("vessels", "us"), show_default=True)
@click.option("--images", default=24, show_default=True, help="Images of each preset.")
@click.option("--objects", default=3, show_default=True, help="Objects of each image.")
def main(presets: tuple[str, ...], images: int, objects: int) -> None:
    """Print a line for each preset."""
    segmenter = Segmenter(models.load("tiny")[0], SecondLook(thin=None))
    for preset in presets:
        scores = np.array(scores_of(segmenter, preset, images, objects))
        without, chosen, better = scores.mean(0)
        click.echo(
            f"{preset}: {len(scores)} answers, {without:.3f} without, {chosen:.3f} with, {better:.3f} at best"
        )


if __name__ == "__main__":
    main()
