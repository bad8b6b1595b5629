"""One evaluation from names to tables: what ``synthfm-eval run`` calls."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from synthfm.data.console import InputError, check_jobs
from synthfm.data.files import fingerprint, locked, sha256
from synthfm.data.folder import MANIFEST
from synthfm.data.prompts import compile_kernels
from synthfm.evaluation.cases.case import Failure
from synthfm.evaluation.cases.descriptor import Descriptor, load_datasets
from synthfm.evaluation.cases.layout import files, shards_of
from synthfm.evaluation.cases.prompting import parse_setting
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.methods import masks as saved
from synthfm.evaluation.methods import registry
from synthfm.evaluation.methods.method import Method, Options, Unavailable, VolumeMethod
from synthfm.evaluation.scoring.run import run
from synthfm.evaluation.scoring.scores import FAILURES, SCORES, claim, has_rows, read_scores

log = logging.getLogger(__name__)
AnyMethod = TypeVar("AnyMethod", Method, VolumeMethod)


def evaluate(
    specs: Sequence[str],
    datasets: Sequence[str],
    root: Path,
    config: EvalConfig,
    out: Path,
    *,
    device: str = "auto",
    jobs: int = 1,
    baseline: str | None = None,
) -> tuple[str, list[Failure]]:
    """Score the methods on the datasets and write the tables.

    Parameters
    ----------
    specs
        Methods as :func:`synthfm.evaluation.methods.registry.build` takes them.
    datasets
        As :func:`synthfm.evaluation.cases.descriptor.load_descriptor` takes them.
    root, config, out, jobs
        As for :func:`synthfm.evaluation.scoring.run.run`.
    device
        ``auto`` takes the GPU if there is one.
    baseline
        As for :func:`synthfm.evaluation.report.report.write_tables`.

    Returns
    -------
    table, failures
        The Markdown table; what could not be scored.

    Raises
    ------
    InputError
        If an argument is wrong, or nothing could be scored.
    """
    from synthfm.evaluation.report.report import write_tables
    from synthfm.trainer.model.precision import resolve

    check_jobs(jobs)
    descriptors = load_datasets(datasets, root)
    device = pick_device(device)
    config = config.model_copy(update={"precision": resolve(config.precision, device.partition(":")[0])})
    build = build_methods if config.dims == 2 else build_for_volumes
    methods: list[Method] | list[VolumeMethod] = build(
        specs, Options(device, config.multimask, config.precision)
    )
    if baseline is not None and baseline not in [method.name for method in methods]:
        known = ", ".join(method.name for method in methods)
        raise InputError(f"--baseline {baseline!r} is no method of this run; choose among {known}")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "synthfm-eval"):
        claim(out, _settings(specs, methods, datasets, descriptors, root, config))
        without = _without_masks(methods, config.prompts)
        compile_kernels(shown=True)
        failures = run(descriptors, root, methods, config, out, jobs=jobs, known=without)
        if not has_rows(out / SCORES):
            if failures:
                first = failures[0]
                raise InputError(
                    f"nothing could be scored; all that failed is in {out / FAILURES} ({len(failures)}), "
                    f"the first: {first.file or first.case}: {first.reason}"
                )
            raise InputError(
                f"nothing to score: no method given can use the prompt settings {', '.join(config.prompts)}, "
                "or no case holds an object that is large enough"
            )
        return write_tables(read_scores(out), out, baseline=baseline), failures


def build_methods(specs: Sequence[str], options: Options) -> list[Method]:
    """Build the methods; one whose optional package is missing is left out with a warning.

    Raises
    ------
    InputError
        If a method is unknown or given twice, or none is left.
    """
    names = [registry.parse(spec).name for spec in specs]
    return _built(specs, names, partial(registry.build, options=options))


def build_for_volumes(specs: Sequence[str], options: Options) -> list[VolumeMethod]:
    """As :func:`build_methods`, for volumes."""
    names = [registry.parse(spec, dims=3).name for spec in specs]
    return _built(specs, names, partial(registry.build_for_volumes, options=options))


def _built(specs: Sequence[str], names: Sequence[str], build: Callable[[str], AnyMethod]) -> list[AnyMethod]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two methods are called {twice!r}; give one another name: --checkpoint NAME=FILE")
    built: list[AnyMethod] = []
    for spec in specs:
        try:
            built.append(build(spec))
        except Unavailable as error:
            log.warning("%s is left out: %s", spec, error)
    if not built:
        raise InputError("no method to score: give --checkpoint FILE or --method NAME")
    return built


def _without_masks(
    methods: Sequence[Method] | Sequence[VolumeMethod], settings: Sequence[str]
) -> list[Failure]:
    """Warn of settings for which a folder of saved masks holds none; one without any mask has failed."""
    failures = []
    for method in methods:
        if not isinstance(method, (saved.SavedMasks, saved.SavedVolumes)):
            continue
        missing = [setting for setting in map(parse_setting, settings) if not method.accepts(setting)]
        if len(missing) == len(settings):
            names = ", ".join(setting.name for setting in missing)
            reason = f"no mask for {names}; expected SETTING/DATASET/CASE/OBJECT{method.suffix} in it"
            failures.append(Failure("", "", method.name, str(method.folder), reason))
            continue
        for setting in missing:
            if not setting.interactive:
                log.warning("%s: %s holds no mask for %s", method.name, method.folder, setting.name)
    return failures


def pick_device(device: str) -> str:
    """``auto`` is the GPU where there is one, else the CPU.

    Raises
    ------
    InputError
        If the device named is not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device {device}: not available here ({reason}); auto takes what there is"
        ) from error
    return device


def _settings(
    specs: Sequence[str],
    methods: Sequence[Method] | Sequence[VolumeMethod],
    datasets: Sequence[str],
    descriptors: Sequence[Descriptor],
    root: Path,
    config: EvalConfig,
) -> dict[str, Any]:
    """What must not change when a run goes on."""
    ready = {method.name for method in methods}
    described = {}
    for spec in specs:
        name, kind, argument = registry.parse(spec, config.dims)
        if name in ready:
            described[name] = _content(kind, argument, config.prompts)
    return {
        "synthfm version": importlib.metadata.version("synthfm"),
        "datasets": [item.name for item in descriptors],
        "descriptors": {item.name: _definition(item, root) for item in descriptors},
        "data files": {
            item.name: fingerprint(files(item, root), shards_of(item, root) or root) for item in descriptors
        },
        "methods": described,
        "data root": str(root.resolve()),
        **config.model_dump(mode="json"),
    }


def _definition(descriptor: Descriptor, root: Path) -> str:
    """Digest of what a descriptor says; a folder of shards is defined by its manifest."""
    folder = shards_of(descriptor, root)
    if folder is not None:
        return sha256(folder / MANIFEST)
    return hashlib.sha256(descriptor.model_dump_json().encode()).hexdigest()


def _content(kind: str, argument: str, settings: Sequence[str]) -> str:
    """What a method answers from: digest of its checkpoint or its saved masks, else its name."""
    if kind in registry.MODELS:
        from synthfm.trainer.model import checkpoints

        file = Path(argument)
        digest = sha256(file if file.is_file() else checkpoints.SHIPPED)  # the word 'tiny' is no file
        return digest if kind == "checkpoint" else f"{kind}:{digest}"
    if kind == "masks":
        return saved.digest(Path(argument), settings)
    if kind in registry.BY_SLICE:
        _, inner, of = registry.parse(argument or registry.BY_SLICE_MODEL)
        return f"{kind}:{_content(inner, of, settings)}"
    return f"{kind}:{argument}"
