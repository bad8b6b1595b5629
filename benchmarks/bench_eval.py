"""How much faster the evaluation is than a plain ``SamPredictor`` loop, in one run on the same cases.

    python benchmarks/bench_eval.py --dataset SHARDS_DIR [--data-root DIR] [--checkpoint FILE] [--limit N]

Five prompt settings (the preset ``five``). Two plain loops are timed beside the evaluation's own code:

- plain: what a script per prompt setting does: every setting sets every image, then asks object by object;
- cached: sets each image once for all settings, then asks prompt by prompt.

All three give the same masks; the script checks that. With ``--score`` every mask also gets its DSC, IoU,
HD95 and surface Dice, in the plain loops by MONAI's functions one by one. The factors are medians of what
the repeats gave, each against the plain loop of the same repeat.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from segment_anything import SamPredictor

from synthfm.data.config import load_preset
from synthfm.evaluation.cases.case import Case
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.config import PRESETS, EvalConfig
from synthfm.evaluation.methods.sam import SamMethod
from synthfm.evaluation.scoring.ask import ask, case_prompts
from synthfm.evaluation.scoring.run import score_answers, score_threads
from synthfm.trainer.model import models
from synthfm.trainer.model.predict import Prompt, Segmenter

Masks = list[np.ndarray]


def predict_alone(predictor: SamPredictor, prompt: Prompt) -> np.ndarray:
    """One prompt as SAM's documentation does it."""
    clicks = len(prompt.points) > 0
    masks, iou, _ = predictor.predict(
        point_coords=prompt.points if clicks else None,
        point_labels=prompt.labels if clicks else None,
        box=prompt.box,
        multimask_output=prompt.is_ambiguous,
    )
    return np.asarray(masks[iou.argmax()])


def score_alone(mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, float] | None) -> None:
    shared = (mask & reference).sum()
    _ = 2 * shared / (mask.sum() + reference.sum()), shared / (mask | reference).sum()
    pair = [torch.as_tensor(part)[None, None] for part in (mask, reference)]
    step = list(spacing or (1.0, 1.0))
    compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=step)
    compute_surface_dice(*pair, [2.0], include_background=True, spacing=step)


def plain(cases: list[Case], sam: object, config: EvalConfig, *, cached: bool, score: bool) -> Masks:
    predictor = SamPredictor(sam)
    masks = []
    for case in cases:
        current = None
        for item, prompt in case_prompts(case, config.prompts, config.seed):
            if not (cached and current) and current != prompt.key.setting:
                predictor.set_image(np.repeat(case.image[:, :, None], 3, axis=2))
                current = prompt.key.setting
            masks.append(predict_alone(predictor, prompt))
            if score:
                score_alone(masks[-1], item.mask, case.spacing)
    return masks


def ours(cases: list[Case], sam: object, config: EvalConfig, *, score: bool) -> Masks:
    method = SamMethod("model", Segmenter(sam))
    masks = []
    with score_threads(-1) as threads:
        for case in cases:
            prompts = case_prompts(case, config.prompts, config.seed)
            seconds, answers = ask(method, case, prompts)
            if score:
                score_answers(case, answers, config, "model", seconds, threads)
            masks += [answer.predicted.mask for answer in answers]  # in the order asked: no further rounds
    return masks


def timed(work: Callable[[], Masks]) -> tuple[float, Masks]:
    started = time.perf_counter()
    masks = work()
    return time.perf_counter() - started, masks


def synthetic_cases(limit: int) -> list[Case]:
    """Cases from shards made for the occasion."""
    from synthfm.generator.config import load_config
    from synthfm.generator.folder.factory import generate

    with tempfile.TemporaryDirectory() as folder:
        generate(folder, load_config("full"), num=limit, jobs=1)
        return [item for item in iter_cases(load_descriptor(folder), Path(".")) if isinstance(item, Case)]


@click.command()
@click.option(
    "--dataset", "datasets", multiple=True, help="As for synthfm-eval; made on the spot if not given."
)
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("."))
@click.option("--checkpoint", default="tiny", show_default=True, help="A SAM-format file, or 'tiny'.")
@click.option("--limit", default=24, show_default=True, help="Cases a dataset.")
@click.option("--repeats", default=3, show_default=True, help="The median of so many counts.")
@click.option("--score", is_flag=True, help="Score the masks as well.")
def main(
    datasets: tuple[str, ...], data_root: Path, checkpoint: str, limit: int, repeats: int, score: bool
) -> None:
    """Time the evaluation against plain SamPredictor loops."""
    config = load_preset(EvalConfig, PRESETS, "five")
    cases = [
        item
        for name in datasets
        for item in iter_cases(load_descriptor(name), data_root, limit=limit)
        if isinstance(item, Case)
    ] or synthetic_cases(limit)
    sam, _ = models.load(checkpoint)
    masks = sum(len(case.objects) for case in cases) * len(config.prompts)
    print(f"{len(cases)} images, {masks} masks, {torch.get_num_threads()} threads")
    print(f"prompts {', '.join(config.prompts)}")
    ours(cases[:1], sam, config, score=score)  # imports and first-call costs
    works: dict[str, Callable[[], Masks]] = {
        "plain": lambda: plain(cases, sam, config, cached=False, score=score),
        "cached": lambda: plain(cases, sam, config, cached=True, score=score),
        "evaluation": lambda: ours(cases, sam, config, score=score),
    }
    spent: dict[str, list[float]] = {name: [] for name in works}
    found: dict[str, Masks] = {}
    for _ in range(repeats):
        for name, work in works.items():
            seconds, found[name] = timed(work)
            spent[name].append(seconds)
    differing = np.mean([(a != b).mean() for a, b in zip(found["plain"], found["evaluation"], strict=True)])
    print(f"{'masks and scores' if score else 'masks'}; pixels that differ: {differing:.1e}")
    for name, times in spent.items():
        seconds = statistics.median(times)
        factor = statistics.median(a / b for a, b in zip(spent["plain"], times, strict=True))
        print(f"  {name:<11}{seconds:8.2f} s   {masks / seconds:7.1f} masks/s   x{factor:.2f}")


if __name__ == "__main__":
    main()
