"""Scores methods on datasets: cases x objects x prompt settings x methods to ``scores.csv``."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib

from synthfm.data.console import Interrupted, Progress, waiting_for
from synthfm.data.files import write_atomically
from synthfm.evaluation.cases.case import Case, Failure
from synthfm.evaluation.cases.cases import NothingFound, iter_cases
from synthfm.evaluation.cases.descriptor import Descriptor
from synthfm.evaluation.cases.layout import find
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.methods.method import Method, VolumeMethod
from synthfm.evaluation.scoring import metrics, overlays
from synthfm.evaluation.scoring.ask import Answer, ask, ask_volume, case_prompts, volume_prompts
from synthfm.evaluation.scoring.scores import FAILURES, Row, ScoresFile, to_csv

log = logging.getLogger(__name__)


def run(
    descriptors: Sequence[Descriptor],
    root: Path,
    methods: Sequence[Method] | Sequence[VolumeMethod],
    config: EvalConfig,
    out: Path,
    *,
    jobs: int = 1,
    known: Sequence[Failure] = (),
) -> list[Failure]:
    """Score every method on every case and append the rows to ``OUT/scores.csv``.

    What the file holds already is not done again. A file that cannot be read, a case on which a method
    crashes, or a dataset of which nothing is there costs no more than itself and is returned (and written to
    ``failures.csv``).

    Parameters
    ----------
    descriptors
        The datasets.
    root
        Folder under which they lie.
    methods
        With distinct names, of images or of volumes as `config.dims` says; the pictures are chosen by the
        first one's scores.
    config
        See :class:`EvalConfig`.
    out
        Folder of the run, claimed by :func:`synthfm.evaluation.scoring.scores.claim`.
    jobs
        Threads for the scores of a case.
    known
        What failed before; the list begins with it.

    Raises
    ------
    Interrupted
        On Ctrl-C.
    """
    failures = list(known)
    cases = 0
    pictures = overlays.Gallery(out / "overlays", sample=config.overlays)
    waiting = waiting_for("what a method is computing now")
    try:
        with waiting, ScoresFile(out) as file, score_threads(jobs) as threads:
            for item in read_cases(descriptors, root, limit=config.limit, dims=config.dims):
                if isinstance(item, Failure):
                    failures.append(item)
                    continue
                cases += 1
                _one_case(item, methods, config, file, pictures, failures, threads)
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted after {cases} cases; the same command goes on from there") from error
    finally:
        write_atomically(out / FAILURES, to_csv(failures, header=Failure))
    return failures


def read_cases(
    descriptors: Sequence[Descriptor], root: Path, *, limit: int | None, dims: int = 2
) -> Iterator[Case | Failure]:
    """The datasets' cases, and what of them cannot be read: all of one, where nothing is under the root.

    A progress bar counts what has been done with them. How many a dataset has is known once all is read: it
    is told from the volumes so far, and before that from the limit.
    """
    with Progress(unit="case") as bar:
        for number, descriptor in enumerate(descriptors, 1):
            bar.total = limit
            bar.reset()
            bar.set_description(f"{descriptor.name} ({number} of {len(descriptors)})")
            volumes = min(find(descriptor, root).images, limit or sys.maxsize)
            seen: set[str] = set()
            try:
                for item in iter_cases(descriptor, root, limit=limit, dims=dims):
                    if isinstance(item, Case) and item.volume not in seen:
                        if seen:
                            bar.total = round(bar.n * volumes / len(seen))
                        seen.add(item.volume)
                    yield item
                    bar.update(isinstance(item, Case))
            except NothingFound as error:
                yield Failure(descriptor.name, "", "", str(root), error.reason)


def _one_case(
    case: Case,
    methods: Sequence[Method] | Sequence[VolumeMethod],
    config: EvalConfig,
    file: ScoresFile,
    pictures: overlays.Gallery,
    failures: list[Failure],
    threads: Executor,
) -> None:
    todo = [method for method in methods if (case.dataset, case.case, method.name) not in file.done]
    if not todo:
        return
    rows: list[Row] = []
    shown: list[tuple[Answer, str, float]] = []
    with _guarded(failures, case, step="prompts"):
        scored_by = (
            _of_volume(case, config, threads)
            if config.dims == 3
            else _of_image(case, config, threads, failures)
        )
        for method in todo:
            with _guarded(failures, case, method=method.name):
                for answer, row in scored_by(method):
                    rows.append(row)
                    shown.append((answer, row.method, row.dsc))
    file.append(rows)
    if len(todo) == len(methods):
        with _guarded(failures, case, step="picture"):
            pictures.offer(case, shown)


Scored = list[tuple[Answer, Row]]


def _of_image(
    case: Case, config: EvalConfig, threads: Executor, failures: list[Failure]
) -> Callable[[Any], Scored]:
    """The prompts of a case; what is returned asks a method and scores its answers."""
    prompts = case_prompts(case, config.prompts, config.seed, missing_in(case, failures))

    def scored_by(method: Method) -> Scored:
        encode_seconds, answers = ask(method, case, prompts)
        rows = score_answers(case, answers, config, method.name, encode_seconds, threads)
        return list(zip(answers, rows, strict=True))

    return scored_by


def missing_in(case: Case, failures: list[Failure]) -> Callable[[str], None]:
    """What a prompt that nobody has drawn costs: that prompt."""
    return lambda reason: failures.append(Failure(case.dataset, case.case, "", "", f"prompts: {reason}"))


def _of_volume(case: Case, config: EvalConfig, threads: Executor) -> Callable[[Any], Scored]:
    """The same of a volume. Masks come one at a time, as they are large: what a picture shows of each is
    kept.
    """
    prompts = volume_prompts(case, config.prompts, config.seed)

    def scored_by(method: VolumeMethod) -> Scored:
        scored = []
        for encode_seconds, answer in ask_volume(method, case, prompts):
            (row,) = score_answers(case, [answer], config, method.name, encode_seconds, threads)
            scored.append((overlays.in_slice(answer), row))
        return scored

    return scored_by


@contextlib.contextmanager
def _guarded(failures: list[Failure], case: Case, *, method: str = "", step: str = "") -> Iterator[None]:
    """Whatever crashes inside costs this case (of one method, where it is named) and no more."""
    try:
        yield
    except Exception as error:
        reason = ": ".join(filter(None, (step, type(error).__name__, str(error))))
        log.debug("%s: %s on %s", method or "case", reason, case.case, exc_info=True)
        failures.append(Failure(case.dataset, case.case, method, "", reason))


def score_threads(jobs: int) -> Executor:
    """Threads for :func:`score_answers`, -1 for one a core.

    Not joblib's: its polling, every hundredth of a second, takes as long as these tasks do.
    """
    return ThreadPoolExecutor(joblib.effective_n_jobs(jobs))


def score_answers(
    case: Case,
    answers: Sequence[Answer],
    config: EvalConfig,
    method: str,
    encode_seconds: float,
    threads: Executor,
) -> list[Row]:
    """Rows of one method's answers to one case, in the answers' order."""
    tolerance = config.tolerance_px if case.spacing is None else config.tolerance_mm
    scores = list(
        threads.map(
            lambda answer: metrics.score(answer.predicted.mask, answer.object.mask, case.spacing, tolerance),
            answers,
        )
    )
    return [
        Row(
            dataset=case.dataset,
            modality=case.modality,
            case=case.case,
            volume=case.volume,
            patient=case.patient,
            slice=case.slice,
            structure=answer.object.structure,
            instance=answer.object.instance,
            prompt=answer.prompt.setting.name,
            round=answer.round,
            clicks=answer.prompt.clicks,
            method=method,
            **dataclasses.asdict(score),
            unit="px" if case.spacing is None else "mm",
            tolerance=tolerance,
            predicted_iou=answer.predicted.iou,
            volume_voxels=answer.object.volume_voxels,
            prompt_seed=answer.prompt.seed,
            encode_seconds=encode_seconds,
            predict_seconds=answer.seconds,
        )
        for answer, score in zip(answers, scores, strict=True)
    ]
