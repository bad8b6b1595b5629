"""Pictures of single cases: the reference and every method's mask on the image, best to worst."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from synthfm.data.files import replacing, slug
from synthfm.data.prompts import Prompt, tight_box
from synthfm.evaluation.cases.case import Case, Object
from synthfm.evaluation.cases.prompting import DrawnPrompt, DrawnVolumePrompt
from synthfm.evaluation.methods.method import Predicted
from synthfm.evaluation.scoring.ask import Answer

PANEL = 224
"""Side of one panel in pixels."""
REFERENCE, PREDICTED, BOX, POSITIVE, NEGATIVE = "#2ecc40", "#ff4136", "#ffdc00", "#39cccc", "#f012be"
_NAME = re.compile(r"(?P<dsc>\d\.\d{3})__(?P<case>.+)\.png")


class Gallery:
    """Keeps the pictures of a run within bounds.

    For each (dataset, structure, prompt setting) it keeps the best case, the worst, and `sample` others that
    are spread at random by their names, from which the report shows the one nearest to the median. They are
    ranked by the first method's DSC, which stands in the file name, so that an interrupted run goes on.
    """

    def __init__(self, folder: Path, *, sample: int) -> None:
        self._folder = folder
        self._sample = sample

    def offer(self, case: Case, answers: Sequence[tuple[Answer, str, float]]) -> None:
        """Show the last round of every object and setting, if it is among those to keep."""
        if not self._sample:
            return
        groups: dict[tuple[str, int, str], dict[str, tuple[Answer, float]]] = {}
        for answer, method, dsc in answers:
            key = (answer.object.structure, answer.object.instance, answer.prompt.setting.name)
            groups.setdefault(key, {})[method] = (answer, dsc)  # a later round replaces the earlier
        for (structure, _, setting), by_method in groups.items():
            if case.image.ndim == 3:
                number = shown_slice(case.objects[0])
                case = dataclasses.replace(case, image=case.image[number])
            folder = self._folder / slug(case.dataset) / slug(structure) / slug(setting)
            self._keep(folder, case, by_method)

    def _keep(self, folder: Path, case: Case, by_method: dict[str, tuple[Answer, float]]) -> None:
        first, dsc = next(iter(by_method.values()))
        name = (
            f"{dsc:.3f}__{slug(case.case)}{f'-{first.object.instance}' if first.object.instance else ''}.png"
        )
        others = [path.name for path in folder.glob("*.png")] if folder.is_dir() else []
        kept = self._chosen([*{*others, name}])
        if name in kept and name not in others:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as partial:
                panels(case, by_method).save(partial, format="PNG", compress_level=1)
        for gone in set(others) - kept:
            (folder / gone).unlink()

    def _chosen(self, names: list[str]) -> set[str]:
        ranked = sorted(names)
        by_chance = sorted(names, key=lambda name: zlib.crc32(name.partition("__")[2].encode()))
        return {ranked[0], ranked[-1], *by_chance[: self._sample]}


def shown_slice(item: Object) -> int:
    """The slice of an object in a volume that is shown: three quarters of the way through it, away from where
    it was prompted but not yet at its end.
    """
    filled = np.flatnonzero(item.mask.any((1, 2)))
    return int(filled[3 * len(filled) // 4])


def in_slice(answer: Answer) -> Answer:
    """What is shown of an answer to a volume: the object, its mask and the prompt in one slice."""
    number, prompt = shown_slice(answer.object), answer.prompt
    assert isinstance(prompt, DrawnVolumePrompt)
    asked = prompt.prompts.get(number, Prompt())
    drawn = DrawnPrompt(
        asked.points, asked.labels, asked.box, setting=prompt.setting, key=prompt.key, seed=prompt.seed
    )
    item = dataclasses.replace(answer.object, mask=answer.object.mask[number])
    predicted = Predicted(answer.predicted.mask[number].copy(), answer.predicted.iou)
    return dataclasses.replace(answer, object=item, prompt=drawn, predicted=predicted)


def panels(case: Case, by_method: dict[str, tuple[Answer, float]]) -> Image.Image:
    """The image, then the same with the reference (green) and each method's mask (red) as outlines."""
    answers = [answer for answer, _ in by_method.values()]
    window = crop_window(
        np.logical_or.reduce([answers[0].object.mask, *(answer.predicted.mask for answer in answers)]),
        answers[0].object.mask,
    )
    prompt = answers[0].prompt
    titles = [case.case, *(f"{method} {dsc:.2f}" for method, (_, dsc) in by_method.items())]
    sheet = Image.new("RGB", (len(titles) * (PANEL + 4) - 4, PANEL + 18), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        answer = answers[column - 1] if column else None
        left = column * (PANEL + 4)
        asked = prompt if column == 0 and isinstance(prompt, DrawnPrompt) else None
        sheet.paste(panel(case.image, window, answers[0].object.mask, answer, asked), (left, 18))
        draw.text((left + 2, 3), _fit(title), fill="black")
    return sheet


def _fit(title: str, most: int = 36) -> str:
    return title if len(title) <= most else title[: most // 2 - 1] + ".." + title[-(most // 2 - 1) :]


def crop_window(shown: NDArray[np.bool_], mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """A square XYXY window around the masks with some context; it may reach beyond the image.

    A mask that runs over the whole image must not make the object tiny: the window is at most four times the
    object's own extent, and at least 48 pixels wide.
    """
    own, union = tight_box(mask), tight_box(shown)
    side = int(max(own[2] - own[0], own[3] - own[1]))
    both = int(max(union[2] - union[0], union[3] - union[1]))
    side = max(48, min(int(1.3 * both), 4 * side), int(1.5 * side))
    x, y = (own[0] + own[2]) // 2, (own[1] + own[3]) // 2
    left, top = int(x - side // 2), int(y - side // 2)
    return left, top, left + side, top + side


def panel(
    image: NDArray[np.uint8],
    window: tuple[int, int, int, int],
    mask: NDArray[np.bool_],
    answer: Answer | None,
    prompt: Prompt | None,
) -> Image.Image:
    """The window of an image with the reference's outline, an answer's and a prompt, those that are given."""

    def shown(array: NDArray, resample: Image.Resampling) -> Image.Image:
        return Image.fromarray(array).crop(window).resize((PANEL, PANEL), resample)

    picture = shown(image, Image.Resampling.BILINEAR).convert("RGB")
    layers = [(mask, REFERENCE)] + ([(answer.predicted.mask, PREDICTED)] if answer else [])
    for layer, colour in layers:
        draw_outline(picture, layer, window, colour)
    if prompt is not None:
        draw_prompt(picture, prompt, window)
    return picture


Colour = str | tuple[int, int, int]


def draw_outline(
    picture: Image.Image, mask: NDArray[np.bool_], window: tuple[int, int, int, int], colour: Colour
) -> None:
    """Draw a mask's outline, (H, W) of the image, into a picture of a window of it, of whatever size."""
    cut = Image.fromarray(mask.astype(np.uint8) * 255).crop(window)
    large = np.asarray(cut.resize(picture.size, Image.Resampling.BILINEAR)) > 127
    outline = large & ~ndimage.binary_erosion(large, border_value=1)
    picture.paste(colour, mask=Image.fromarray(outline.astype(np.uint8) * 255))


def draw_prompt(picture: Image.Image, prompt: Prompt, window: tuple[int, int, int, int]) -> None:
    """Draw a prompt into a picture of a window of the image."""
    draw = ImageDraw.Draw(picture)
    scale = np.array(picture.size) / (window[2] - window[0], window[3] - window[1])
    if prompt.box is not None:
        corners = (prompt.box.reshape(2, 2) - window[:2]) * scale
        last = np.maximum(corners[1] - 1, corners[0])  # a thin box may be less than a pixel of the panel
        draw.rectangle([*corners[0], *last], outline=BOX)
    for point, label in zip(prompt.points, prompt.labels, strict=True):
        x, y = (np.asarray(point, float) + 0.5 - window[:2]) * scale
        colour = POSITIVE if label else NEGATIVE
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour, outline="black")


def choose(folder: Path, median: float) -> dict[str, Path]:
    """The best, the worst and, between them, the picture nearest to a median DSC of a folder of the gallery.

    Fewer where there are fewer.
    """
    pictures = sorted(path for path in folder.glob("*.png") if _NAME.fullmatch(path.name))
    if not pictures:
        return {}
    found = {"best": pictures[-1]}
    if len(pictures) > 2:
        found["median"] = min(pictures[1:-1], key=lambda path: abs(float(path.name[:5]) - median))
    if len(pictures) > 1:
        found["worst"] = pictures[0]
    return found
