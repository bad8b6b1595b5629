"""Makes the picture of good, typical and failed cases in README: ``python docs/img/make_model_picture.py``.

Held-out synthetic images, because pictures of the real ones are not this project's to give away. For each
modality and prompt all objects are ranked by their DSC: shown are those at the 90th, 50th and 5th percentile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from synthfm.evaluation.cases.case import Case
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.methods.sam import SamMethod
from synthfm.evaluation.scoring import metrics, overlays
from synthfm.evaluation.scoring.ask import Answer, ask, case_prompts
from synthfm.generator.config import load_config
from synthfm.generator.folder.factory import generate
from synthfm.trainer.model import models
from synthfm.trainer.model.predict import Segmenter

NUMBER, SEED = 64, 1000
SETTINGS = ("box", "point1")
RANKS = {"good": 0.9, "typical": 0.5, "failed": 0.05}
MARGIN, TITLE = 56, 16


def scored(preset: str, method: SamMethod) -> dict[str, list[tuple[float, Case, Answer]]]:
    """All objects of a preset's held-out images with their DSC, ascending, by prompt setting."""
    found: dict[str, list[tuple[float, Case, Answer]]] = {setting: [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        generate(folder, load_config(preset), num=NUMBER, root_seed=SEED)
        for case in iter_cases(load_descriptor(folder), Path()):
            assert isinstance(case, Case)
            _, answers = ask(method, case, case_prompts(case, SETTINGS, 0))
            for answer in answers:
                dsc = metrics.score(answer.predicted.mask, answer.object.mask, None, 2.0).dsc
                found[answer.prompt.setting.name].append((dsc, case, answer))
    return {setting: sorted(items, key=lambda item: item[0]) for setting, items in found.items()}


def main() -> None:
    """Write ``tiny_cases.png`` beside this file."""
    method = SamMethod("tiny", Segmenter(models.load("tiny")[0]))
    columns = [
        (f"{preset.upper()}, {'box' if setting == 'box' else 'one click'}", items)
        for preset in ("ct", "mr", "us")
        for setting, items in scored(preset, method).items()
    ]
    side = overlays.PANEL + 4
    sheet = Image.new("RGB", (MARGIN + len(columns) * side, TITLE + len(RANKS) * (side + TITLE)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, rank) in enumerate(RANKS.items()):
        top = TITLE + row * (side + TITLE)
        pen.text((4, top + side // 2), name, fill="black")
        for column, (title, items) in enumerate(columns):
            left = MARGIN + column * side
            pen.text((left + 2, 2), title, fill="black")
            dsc, case, answer = items[int(rank * (len(items) - 1))]
            mask = answer.object.mask
            window = overlays.crop_window(mask | answer.predicted.mask, mask)
            sheet.paste(overlays.panel(case.image, window, mask, answer, answer.prompt), (left, top))
            pen.text((left + 2, top + side), f"DSC {dsc:.2f}", fill="black")
    sheet.quantize(128).save(Path(__file__).parent / "tiny_cases.png", optimize=True)


if __name__ == "__main__":
    main()
