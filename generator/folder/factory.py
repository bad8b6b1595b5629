"""Many samples: a folder of shards, filled by worker processes, interrupted and resumed at will.

The unit of work is one whole shard, and a volume lies in one shard. What a shard holds depends on the
config, the root seed and its place alone, so the folder's bytes are the same whatever the number of workers,
the backend or the interruptions.

While the folder is being filled it holds ``unfinished.json`` (the settings) and one progress file, to which
each worker appends a byte a sample. The progress file is also how workers are stopped: when it is gone,
every worker, on this machine or another, drops its half-made shard and returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import joblib
from joblib.externals import loky
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.backend.process import LokyProcess

from synthfm.data.console import (
    Failed,
    InputError,
    Progress,
    brought_by,
    check_jobs,
    kill_workers,
    waiting_for,
)
from synthfm.data.files import PARTIAL
from synthfm.data.folder import UNFINISHED, Manifest, ShardInfo, describe_shard, write_manifest
from synthfm.data.shards import Sample, Shard, ShardWriter
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.folder.claim import claimed
from synthfm.generator.folder.compiling import compile_kernels
from synthfm.generator.folder.label_files import Given, read_map, read_slice
from synthfm.generator.labelled import LabelledConfig, paint_sample, take_sample
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume, volume_depth

SHARD_SIZE = 64
VOLUMES = 4  # a shard, unless asked otherwise
MAX_SHARDS = 100_000  # their names have five digits
MAX_SHARD_PIXELS = 1 << 25  # a shard is compressed in memory: a worker stays under 400 MB up to 1024 pixels
BACKENDS = ("loky", "dask")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED_AFTER = 1.5
"""Seconds that workers have to end their samples after a signal."""
LONELY = 30.0
"""Seconds that a cluster may be without a worker."""


class Stopped(Exception):
    """Generation was stopped by a signal; what is whole stays.

    Attributes
    ----------
    signum
        The signal's number.
    whole, total
        Shards that are whole, and shards that there will be.
    """

    def __init__(self, signum: int, whole: int, total: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}: {whole} of {total} shards are whole")
        self.signum, self.whole, self.total = signum, whole, total


@dataclass(frozen=True)
class Task:
    """One shard to be filled: all that a worker needs to know."""

    path: Path
    progress: Path
    config: GeneratorConfig
    package_version: str
    root_seed: int
    first_index: int
    count: int
    parent: int = 0
    """The process without which its worker is to end; 0 where a cluster keeps the workers."""
    known: ShardInfo | None = None
    """The shard's line in the manifest of a folder that was finished before."""
    volumes: range | None = None
    """The numbers of its volumes, of which its samples are the slices; None for single images."""
    given: tuple[Given, ...] = ()
    """The label map of each sample, where they are given."""


def generate(
    folder: str | Path,
    config: GeneratorConfig,
    *,
    num: int,
    root_seed: int = 0,
    shard_size: int | None = None,
    jobs: int = -1,
    backend: str = "loky",
    scheduler: str | None = None,
    progress: bool = False,
    given: Sequence[Given] = (),
) -> Manifest:
    """Fill a folder with `num` samples or volumes, or finish what a call with the same arguments began.

    A dataset does not change once begun: other settings for the same folder, a larger `num` among them, are
    refused. To have more samples, fill a second folder from another root seed; readers take several.

    Parameters
    ----------
    folder
        Where to write; made if missing.
    config
        What the samples look like.
    num
        Number of single images, or of volumes where the config makes those, at least 1.
    root_seed
        0 to 2**63 - 1; sample or volume i depends on it and on i alone.
    shard_size
        Samples a shard; None for :data:`SHARD_SIZE`, or :data:`VOLUMES` of the deepest volumes, or what a
        worker's memory allows where that is less. A shard has as many whole volumes as surely fit.
    jobs
        Worker processes; -1 for one a core. The Dask backend uses what the cluster has.
    backend, scheduler
        ``"loky"`` for processes of this machine, ``"dask"`` for the cluster of the scheduler at this
        address, whose workers must see `folder` under the same path.
    progress
        Whether to show a progress bar on standard error.
    given
        Label maps, of which sample i has number i, beginning again after the last; the config is then a
        ``LabelledConfig``. :func:`synthfm.generator.folder.label_files.survey` returns both.

    Raises
    ------
    InputError
        If an argument is out of range, the folder holds something else, or it cannot be written to.
    Stopped
        On SIGINT, SIGTERM or SIGHUP (in the main thread). Only whole shards are left.
    Failed
        If a worker process died.
    """
    largest = max(1, MAX_SHARD_PIXELS // config.size**2)
    deepest = config.volume.depth[1]
    wanted = VOLUMES * deepest if config.makes_volumes else SHARD_SIZE
    shard_size = max(deepest, min(wanted, largest)) if shard_size is None else shard_size
    _check_arguments(config, num, root_seed, shard_size, largest, jobs, backend, scheduler)
    contents = _contents(config, num, root_seed, shard_size)
    plan = Manifest(
        config=config.model_dump(mode="json"),
        package_version=importlib.metadata.version("synthfm"),
        root_seed=root_seed,
        num=sum(content.count for content in contents),
        shard_size=shard_size,
        shards=(),
    )
    out = Path(folder).absolute()
    with _backend(jobs, backend, scheduler) as (run, staffed), claimed(out, plan) as known:
        local = backend == "loky"
        tasks = _tasks(out, config, plan, contents, known, given, parent=os.getpid() if local else 0)
        shards = _fill(out, tasks, run, staffed, progress, compiles=local, workers=local and jobs != 1)
        write_manifest(out, dataclasses.replace(plan, shards=tuple(shards)))
        (out / UNFINISHED).unlink()
    return dataclasses.replace(plan, shards=tuple(shards))


def _check_arguments(
    config: GeneratorConfig,
    num: int,
    root_seed: int,
    shard_size: int,
    largest: int,
    jobs: int,
    backend: str,
    scheduler: str | None,
) -> None:
    if num < 1:
        raise InputError(f"--num {num}: at least 1 {'volume' if config.makes_volumes else 'sample'}")
    if not 0 <= root_seed < 1 << 63:
        raise InputError(f"--seed {root_seed}: from 0 to {(1 << 63) - 1}")
    check_jobs(jobs)
    if not 1 <= shard_size <= largest:
        raise InputError(f"--shard-size {shard_size}: from 1 to {largest} samples at size {config.size}")
    deepest = config.volume.depth[1]
    if shard_size < deepest:
        raise InputError(
            f"--shard-size {shard_size}: a volume of up to {deepest} slices lies in one shard; give at least "
            f"{deepest}"
        )
    if num > MAX_SHARDS * (shard_size // deepest):
        raise InputError(
            f"--num {num}: more than {MAX_SHARDS} shards of {shard_size}; give a larger --shard-size"
        )
    if backend not in BACKENDS:
        raise InputError(f"--backend {backend!r}: one of {', '.join(BACKENDS)}")
    if (backend == "dask") != (scheduler is not None):
        raise InputError("--backend dask and --scheduler ADDRESS (such as tcp://host:8786) go together")


@dataclass(frozen=True)
class _Content:
    """The samples of a shard, and the volumes of which they are the slices."""

    first_index: int
    count: int
    volumes: range | None = None

    @property
    def indices(self) -> range:
        """The numbers of its samples."""
        return range(self.first_index, self.first_index + self.count)


def _contents(config: GeneratorConfig, num: int, root_seed: int, shard_size: int) -> list[_Content]:
    """What each shard of a dataset of `num` samples or volumes holds."""
    if not config.makes_volumes:
        return [_Content(first, min(shard_size, num - first)) for first in range(0, num, shard_size)]
    each = shard_size // config.volume.depth[1]
    contents, first_index = [], 0
    for first in range(0, num, each):
        volumes = range(first, min(first + each, num))
        count = sum(volume_depth(config, root_seed, number) for number in volumes)
        contents.append(_Content(first_index, count, volumes))
        first_index += count
    return contents


def _tasks(
    folder: Path,
    config: GeneratorConfig,
    plan: Manifest,
    contents: list[_Content],
    known: Mapping[str, ShardInfo],
    given: Sequence[Given],
    parent: int,
) -> list[Task]:
    progress = folder / f"progress.{uuid.uuid4().hex[:8]}{PARTIAL}"
    paths = [folder / f"shard-{number:05d}.h5" for number in range(len(contents))]
    return [
        Task(
            path=path,
            progress=progress,
            config=config,
            package_version=plan.package_version,
            root_seed=plan.root_seed,
            first_index=content.first_index,
            count=content.count,
            parent=parent,
            known=known.get(path.name),
            volumes=content.volumes,
            given=tuple(given[index % len(given)] for index in content.indices) if given else (),
        )
        for path, content in zip(paths, contents, strict=True)
    ]


@contextlib.contextmanager
def _backend(
    jobs: int, backend: str, scheduler: str | None
) -> Iterator[tuple[Callable[[list[Task]], list[ShardInfo | None]], Callable[[], bool]]]:
    """A function that runs the tasks on this machine's processes or on a Dask cluster, and whether it can."""
    settings: dict[str, Any] = {"backend": backend}
    if backend == "dask":
        settings.update(client=_dask_client(str(scheduler)))
    else:
        # One thread a worker: the processes fill the cores, and sums come out the same whatever their number.
        settings.update(inner_max_num_threads=1, idle_worker_timeout=20)

    def run(tasks: list[Task]) -> list[ShardInfo | None]:
        # Worker processes inherit this mask: a Ctrl-C reaches them too, but it is the parent that stops them.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        resource_tracker.ensure_running()
        loky_resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # again: starting the trackers may lift it
        if backend == "loky":
            settings["n_jobs"] = min(joblib.cpu_count() if jobs == -1 else jobs, len(tasks))
        with joblib.parallel_config(**settings):
            return joblib.Parallel(batch_size=1)(joblib.delayed(fill_shard)(task) for task in tasks)

    def staffed() -> bool:
        return "client" not in settings or bool(settings["client"].scheduler_info()["workers"])

    try:
        yield run, staffed
    finally:
        if "client" in settings:
            settings["client"].close(timeout=5)


def _dask_client(scheduler: str) -> Any:
    try:
        import distributed
        from distributed.comm.addressing import parse_address, parse_host_port, resolve_address
    except ImportError as error:
        raise InputError(f"--backend dask needs Dask; {brought_by('dask')}") from error
    try:
        # An address that cannot be one is told here: a client that has it complains again at its end.
        parse_host_port(parse_address(resolve_address(scheduler))[1])
        return distributed.Client(scheduler, timeout=5, set_as_default=False)
    except Exception as error:  # each protocol has its own
        raise InputError(f"--scheduler {scheduler}: no Dask scheduler answers there") from error


def _fill(
    folder: Path,
    tasks: list[Task],
    run: Callable[[list[Task]], list[ShardInfo | None]],
    staffed: Callable[[], bool],
    progress: bool,
    *,
    compiles: bool,
    workers: bool,
) -> list[ShardInfo]:
    ticks = tasks[0].progress
    there = sum(task.count for task in tasks if task.path.exists())
    ticks.touch()
    stops: list[int] = []
    working, shards = False, list[ShardInfo | None]()

    def stop(signum: int, frame: object) -> None:
        stops.append(signum)
        ticks.unlink(missing_ok=True)
        if not working:
            raise _Dropped

    def whole() -> int:
        return sum(task.path.exists() for task in tasks)

    try:
        with contextlib.suppress(_Dropped), _handling(stop):
            if compiles:
                left = sum(task.count for task in tasks if not task.path.exists())
                compile_kernels(tasks[0].config, tasks[0].root_seed, left, progress)
            working = True
            with waiting_for("the samples that are being made"):
                future = _in_thread(run, tasks)
                total = tasks[-1].first_index + tasks[-1].count
                if _watch(future, ticks, there, total, progress, stops if workers else [], staffed):
                    shards = future.result()
    except Exception as error:
        if not stops:  # else it is of a worker that was ended
            explained = _explained(error, folder, whole(), len(tasks))
            if explained is error:
                raise
            raise explained from error
    finally:
        ticks.unlink(missing_ok=True)
    if stops:
        raise Stopped(stops[0], whole(), len(tasks))
    if not folder.is_dir():
        raise Failed(f"{folder}: was removed while it was being filled; run the same command to begin again")
    finished = [info for info in shards if info is not None]
    if len(finished) < len(tasks) or whole() < len(tasks):
        raise Failed(
            f"{folder}: not every worker sees this folder; --out must be on a file system they share"
        )
    return finished


def _explained(error: Exception, folder: Path, whole: int, total: int) -> Exception:
    """What went wrong while a folder was filled, in words for the person who has it filled."""
    there = f"{whole} of {total} shards are whole"
    lost = f"the Dask cluster failed ({error}); {there}: run the same command to go on"
    if not folder.is_dir():
        return Failed(f"{folder}: was removed while it was being filled; run the same command to begin again")
    if isinstance(error, TimeoutError):  # joblib's, which has waited for a worker
        return Failed(lost)
    if isinstance(error, OSError) and error.strerror is not None:
        return InputError(
            f"{error.filename or folder}: {error.strerror}; {whole} of {total} shards are whole: put it "
            "right, then run the same command to go on"
        )
    if isinstance(error, loky.BrokenProcessPool):
        return Failed(
            f"a worker process was killed (out of memory?); {whole} of {total} shards are whole: run the "
            "same command to go on, perhaps with fewer --jobs"
        )
    return Failed(lost) if type(error).__module__.startswith("distributed") else error


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle the signals that ask a program to stop, except those it was told to ignore (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _in_thread(run: Callable[[list[Task]], list[ShardInfo | None]], tasks: list[Task]) -> Future[Any]:
    """What becomes of the tasks in a thread that no end of the program waits for: a cluster may be gone."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(run(tasks))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _watch(
    future: Future[Any],
    ticks: Path,
    there: int,
    total: int,
    progress: bool,
    stops: list[int],
    staffed: Callable[[], bool],
) -> bool:
    """Show a progress bar from the size of the progress file until the work is done.

    Workers that are asked to stop and do not, as the machine is busy, are killed: what they have is no shard.

    Returns
    -------
    bool
        Whether the future is done: what becomes of it without workers may take joblib seconds.

    Raises
    ------
    Failed
        If the cluster has had no worker for :data:`LONELY` seconds.
    """
    last, looked, seen = math.inf, time.monotonic(), time.monotonic()
    with Progress(total=total, initial=there, unit="sample", disable=not progress) as bar:
        while not future.done():
            wait([future], timeout=0.2)
            if stops and last == math.inf:
                last = time.monotonic() + KILLED_AFTER
            if time.monotonic() > last:
                kill_workers(LokyProcess)  # loky's own way writes tracebacks, and may come after our end
                return False
            if time.monotonic() > looked + LONELY / 10:
                looked = time.monotonic()
                seen = looked if staffed() else seen
                if looked > seen + LONELY:
                    text = (
                        f"the Dask cluster has had no worker for {LONELY:g} s; start some, then run the same"
                    )
                    raise Failed(f"{text} command to go on")
            with contextlib.suppress(FileNotFoundError):
                bar.update(there + ticks.stat().st_size - bar.n)
    return True


def fill_shard(task: Task) -> ShardInfo | None:
    """Make one shard, unless it is there, and describe it; None if stopped before it was whole.

    Raises
    ------
    InputError
        If the shard is there but damaged or another dataset's, or this machine's version is another.
    """
    if task.parent not in (0, os.getpid()):
        _outlive_not(task.parent)
    own = importlib.metadata.version("synthfm")
    if own != task.package_version:
        raise InputError(f"a worker has version {own} of synthfm, not {task.package_version}")
    config = json.dumps(task.config.model_dump(mode="json"), sort_keys=True)
    if task.path.exists():
        return _describe_existing(task, config)

    def between() -> None:  # a config that shows little draws many scenes for a sample
        if not task.progress.exists():
            raise _Dropped

    samples = _samples(task, between)
    if not _tick(task.progress):
        return None
    with contextlib.suppress(_Dropped):
        first = next(samples)
        with ShardWriter(
            task.path,
            count=task.count,
            shape=(first.image.shape[0], first.image.shape[1]),
            points=first.objects.points.shape[1],
            config=config,
            package_version=task.package_version,
            root_seed=task.root_seed,
            first_index=task.first_index,
        ) as writer:
            writer.append(first)
            for sample in samples:
                writer.append(sample)
                if not _tick(task.progress):
                    raise _Dropped
        return describe_shard(task.path)
    return None


@functools.cache  # one thread a worker
def _outlive_not(parent: int) -> None:
    """End this worker when its parent has ended: killed, it tells them nothing, and they would go on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _samples(task: Task, between: Callable[[], None]) -> Iterator[Sample]:
    """The samples of a shard, made one by one or volume by volume."""
    if isinstance(task.config, LabelledConfig):
        for index, given in enumerate(task.given, start=task.first_index):
            yield _labelled(task.config, task.root_seed, index, given, between)
        return
    if task.volumes is None:
        for index in range(task.first_index, task.first_index + task.count):
            yield make_sample(task.config, task.root_seed, index, between)
        return
    first = task.first_index
    for number in task.volumes:
        volume = make_volume(task.config, task.root_seed, number, first, between)
        first += len(volume)
        yield from volume


def _labelled(
    config: LabelledConfig, root_seed: int, index: int, given: Given, between: Callable[[], None]
) -> Sample:
    """The sample of a label map: of its own image, or of one that is painted."""
    shown = read_map(given, config.size, config.labels)
    if given.image is not None:
        image = read_slice(given, config.size, config.labels.window)
        return take_sample(config, root_seed, index, shown, image)
    try:
        return paint_sample(config, root_seed, index, shown, between)
    except InputError as error:
        raise InputError(f"{given}: {error}") from error


class _Dropped(BaseException):  # numba catches every Exception here and there
    """Leaves what was asked to stop: a shard that is not finished, or the compiling before them."""


def _tick(progress: Path) -> bool:
    """Count one sample; False when the progress file is gone, which means stop."""
    try:
        descriptor = os.open(progress, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    try:
        os.write(descriptor, b".")
    finally:
        os.close(descriptor)
    return True


def _describe_existing(task: Task, config: str) -> ShardInfo:
    """The line of a shard that is there. A manifest vouches for what it names, so the shard must be sound.

    Where a manifest knows the shard its SHA-256 tells; else every image is read against its checksum.
    """
    try:
        with Shard(task.path) as shard:
            found = (shard.config, shard.package_version, shard.root_seed, shard.first_index, shard.count)
            if task.known is None:
                for _ in shard:
                    pass
        line = describe_shard(task.path)
    except InputError as error:
        raise InputError(f"{error}; delete it, then run the same command") from error
    if found != (config, task.package_version, task.root_seed, task.first_index, task.count):
        raise InputError(f"{task.path}: of another dataset; delete it, then run the same command")
    if task.known is not None and line != task.known:
        raise InputError(f"{task.path}: damaged or altered; delete it, then run the same command")
    return line
