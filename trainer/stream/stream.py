"""Shards to batches.

Everything follows from the seed and the step: which samples, which of their objects, what augmentation. So
a run that starts again at step n reads what an uninterrupted one would, whatever the number of processes
and workers, and no state of the stream needs to be stored.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing.util
import os
import pickle
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from traceback import clear_frames

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info

from synthfm.data.console import Failed, InputError
from synthfm.data.folder import check_volumes, read_manifest, shard_paths
from synthfm.data.shards import Sample, Shard
from synthfm.trainer.config import Prompting, TrainConfig
from synthfm.trainer.stream import augment
from synthfm.trainer.stream.batch import Batch, collate
from synthfm.trainer.stream.embeddings import Cache
from synthfm.trainer.stream.following import SlicesAfter, slices_after
from synthfm.trainer.stream.samples import prepare
from synthfm.trainer.system.interruption import WorkersContext, leave_group

log = logging.getLogger("synthfm.train")
_TRIES = 50
ENDED = (
    "a worker that reads ahead was ended from outside, as the system does where memory runs out; lower "
    "stream.workers or the batch, or go on with the same command"
)


@dataclass
class Packed:
    """A batch on its way from a worker: its tensors lie in shared memory."""

    content: bytes

    def unpacked(self) -> Batch:
        """The batch.

        Raises
        ------
        InputError
            If the shared memory or the number of open files does not suffice for it.
        Failed
            If the worker that has it is gone.
        """
        try:
            batch: Batch = pickle.loads(self.content)  # of our own worker, never of a file
        except (ConnectionError, FileNotFoundError, EOFError) as error:
            raise Failed(ENDED) from error
        except (RuntimeError, OSError) as error:
            raise _no_room(str(error)) from error
        return batch

    def pin_memory(self) -> Batch | InputError | Failed:
        """Called by the data loader, in a thread of its own."""
        try:
            return self.unpacked().pin_memory()
        except (InputError, Failed) as error:
            return error


FEWEST_FILES = 128
"""Files that a process with workers may have to open: with fewer, Python's own thread that hands over what a
worker has read tries for ever, with a traceback each time."""
_STARVED = ("shared memory", os.strerror(errno.EMFILE), os.strerror(errno.ENOSPC))


def _no_room(error: str) -> InputError:
    """What to do where a worker cannot hand over its batches.

    A process that may open no more files gets messages without those that came with them ("0 items of
    ancdata").
    """
    if "ancdata" in error or "open files" in error:
        return InputError(
            "too many open files: the workers that read ahead need more; raise the limit (ulimit -n), or set "
            "stream.workers=0"
        )
    return InputError(
        "shared memory (/dev/shm) is full: the workers that read ahead pass their batches through it; give "
        "it more (docker run --shm-size), or set stream.workers=0"
    )


class Source:
    """The samples of some dataset folders, numbered through, of which a share is held out.

    Parameters
    ----------
    folders
        Dataset folders of shards of one size.
    val_share, val_most
        Share of the samples in `held_out`, and most of them; the same for the same folders, whatever the
        run's seed. Of volumes whole shards are held out, one at least: of a volume whose other slices are
        trained on, a slice says little.
    """

    def __init__(self, folders: Sequence[str | Path], val_share: float = 0.0, val_most: int = 0) -> None:
        self.paths: list[Path] = []
        counts: list[int] = []
        groups: list[NDArray[np.int64]] = []  # how many samples are held out together
        shapes: set[tuple[int, int]] = set()
        self.of_volumes: list[str] = []
        """The folders that hold volumes."""
        for folder in folders:
            paths = shard_paths([folder])
            shapes.update(_first_shape(paths))
            self.paths += paths
            # Not the shards' own: one that goes bad between two starts would draw another held-out share.
            manifest = read_manifest(folder)
            counts += [line.count for line in manifest.shards]
            if manifest.of_volumes:
                self.of_volumes.append(str(folder))
            for line in manifest.shards:
                groups.append(
                    np.array([line.count]) if manifest.of_volumes else np.ones(line.count, np.int64)
                )
        if len(shapes) > 1:
            text = ", ".join(f"{height}x{width}" for height, width in sorted(shapes))
            raise InputError(f"{', '.join(map(str, folders))}: shards of different image sizes ({text})")
        if not shapes:
            raise InputError(f"{', '.join(map(str, folders))}: no shard can be read")
        self.shape = shapes.pop()
        self.counts = np.array(counts)
        total = int(self.counts.sum())
        sizes = np.concatenate(groups)
        shuffled = np.random.default_rng(20250408).permutation(len(sizes))
        wanted = min(round(val_share * total), val_most)
        first = shuffled[np.cumsum(sizes[shuffled]) - sizes[shuffled] < wanted]
        validated = np.repeat(np.isin(np.arange(len(sizes)), first), sizes)
        self.training = _split(~validated, self.counts)
        self.held_out = _split(validated, self.counts)

    def __len__(self) -> int:
        return int(sum(len(rows) for rows in self.training))

    def open(self, path: Path) -> Shard:
        """One of the shards.

        Raises
        ------
        InputError
            If it cannot be read, is not the one of which the dataset's manifest tells, or holds volumes of
            which slices are missing or tracks are broken.
        """
        shard = Shard(path)
        if problem := check_volumes(shard):
            shard.close()
            raise InputError(f"{path}: {problem}")
        found, wanted = (len(shard), *shard.shape), (int(self.counts[self.paths.index(path)]), *self.shape)
        if found != wanted:
            shard.close()
            raise InputError(
                "{}: holds {} images of {}x{} where the dataset has {} of {}x{}".format(path, *found, *wanted)
            )
        return shard

    def holder(self, number: int) -> str:
        """The shard that holds a sample, for a message: more than one, where datasets share its number."""
        paths = []
        for path in self.paths:
            with suppress(InputError), Shard(path) as shard:
                if number in shard.index:
                    paths.append(str(path))
        return " or ".join(paths)


def check_disjoint(folders: Sequence[str | Path]) -> None:
    """Raise :class:`InputError` where datasets share a shard: what one holds out, the other trains on."""
    known: dict[str, Path] = {}
    for folder in folders:
        for line in read_manifest(folder).shards:
            path = Path(folder) / line.file
            if line.sha256 in known:
                raise InputError(
                    f"{path}: the same samples as {known[line.sha256]}, so some would be trained on and "
                    "validated on; give each dataset once"
                )
            known[line.sha256] = path


def _first_shape(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Image size of a dataset, from its first shard that can be read; the others the stream will report."""
    for path in paths:
        with suppress(InputError), Shard(path) as shard:
            return [shard.shape]
    return []


def _split(chosen: NDArray[np.bool_], counts: NDArray) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(part) for part in np.split(chosen, np.cumsum(counts)[:-1])]


def epoch_order(
    rows: Sequence[NDArray[np.int64]], seed: int, epoch: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of one epoch: shard numbers and positions in them, every sample once.

    Shards are shuffled, then the samples of each `window` of shards among one another, so that no more files
    than that are read at a time.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    order = rng.permutation(len(rows))
    shards, positions = [], []
    for start in range(0, len(order), window):
        members = order[start : start + window]
        shard = np.concatenate([np.full(len(rows[k]), k) for k in members])
        position = np.concatenate([rows[k] for k in members])
        mixed = rng.permutation(len(shard))
        shards.append(shard[mixed])
        positions.append(position[mixed])
    return np.concatenate(shards), np.concatenate(positions)


class Batches:
    """Batch n of a run, n = ``step * accumulate + part``, for one of `world` processes.

    Parameters
    ----------
    source
        The samples.
    config
        The run's config.
    rank, world
        This process's number, and how many there are.
    cache
        Embeddings to deliver with the images, or None.
    following
        How many slices of its volume to read after each image in a step.
    """

    def __init__(
        self,
        source: Source,
        config: TrainConfig,
        rank: int = 0,
        world: int = 1,
        cache: Cache | None = None,
        following: Callable[[int], int] | None = None,
    ) -> None:
        parts = world * config.accumulate
        if config.batch % parts:
            raise InputError(f"batch ({config.batch}) must be a multiple of processes x accumulate ({parts})")
        if not len(source):
            raise InputError(
                "no samples to train on: all are held out for validation; lower stream.val_share"
            )
        if config.prompts.carry and not source.of_volumes:
            raise InputError(
                "prompts.carry: no mask can be carried through single images, and none of the folders holds "
                "volumes; add one that synthfm-generate run --preset volumes has made, or set prompts.carry=0"
            )
        self.source, self.config, self.rank, self.world, self.cache = source, config, rank, world, cache
        self.following = following
        self.size = config.batch // parts
        self._open: OrderedDict[Path, Shard] = OrderedDict()
        self._order: tuple[int, tuple[NDArray, NDArray]] | None = None

    def __getitem__(self, number: int) -> Batch:
        step, part = divmod(number, self.config.accumulate)
        first = step * self.config.batch + (part * self.world + self.rank) * self.size
        count = self.following(step) if self.following else 0
        return collate([self._item(first + i, count) for i in range(self.size)])

    def attempt(self, number: int) -> Batch | Packed | InputError | OSError:
        """Batch `number`, or what is wrong: raised in a worker, an error would come with its traceback.

        A worker packs it here: the loader's own thread for that would lose a batch for which there is no
        room in the shared memory, and the run would wait for it for ever.
        """
        try:
            batch = self[number]
            if get_worker_info() is None:
                return batch
            return Packed(bytes(ForkingPickler.dumps(batch)))
        except OSError as error:
            return _no_room(str(error)) if error.errno in (errno.EMFILE, errno.ENFILE) else error
        except InputError as error:
            return error
        except RuntimeError as error:
            # PyTorch's own words, which differ from version to version
            if not any(words in str(error) for words in _STARVED):
                raise
            return _no_room(str(error))

    def _item(self, position: int, following: int = 0) -> dict:
        """The sample at a position of the endless stream; one that cannot be used is replaced by another."""
        problems: list[str] = []
        for attempt in range(_TRIES):
            rng = np.random.default_rng([self.config.seed, position, attempt, 2])
            place = position
            if attempt:  # from the same epoch: the order of another would have to be drawn for it, and again
                count = len(self.source)
                place = position - position % count + int(rng.integers(count))
            path, row = self._locate(place)
            try:
                shard = self._shard(path)
                run = None
                if following:
                    chance = np.random.default_rng([self.config.seed, position, attempt, 5])
                    run = slices_after(shard, row, following, self.config.prompts.carry_apart, chance)
                stream, change, prompts = self.config.stream, self.config.augment, self.config.prompts
                item = prepare(shard[row], stream, change, rng, run=run, prompting=prompts)
                features = self.cache.read(path, row) if self.cache and item else None
                if self.cache and item and run:
                    item["following"]["features"] = np.stack([self.cache.read(path, k) for k in run.rows])
            except InputError as error:
                problems.append(str(error))
                self._forget(path)
                continue
            if item is not None:
                return item | {"features": features, "problems": problems}
        stream = self.config.stream
        none = (
            f"no sample holds an object of {stream.min_area} pixels or more (stream.min_area) that covers at "
            f"most {stream.max_share:g} of the image (stream.max_share)"
        )
        reason = problems[-1] if problems else none
        raise InputError(f"{_TRIES} samples in a row cannot be used: {reason}")

    def _locate(self, position: int) -> tuple[Path, int]:
        epoch, place = divmod(position, len(self.source))
        if self._order is None or self._order[0] != epoch:
            window = self.config.stream.window
            self._order = epoch, epoch_order(self.source.training, self.config.seed, epoch, window)
        shards, rows = self._order[1]
        return self.source.paths[int(shards[place])], int(rows[place])

    def _shard(self, path: Path) -> Shard:
        if path not in self._open:
            if len(self._open) >= self.config.stream.window:
                self._open.popitem(last=False)[1].close()
            self._open[path] = self.source.open(path)
        self._open.move_to_end(path)
        return self._open[path]

    def _forget(self, path: Path) -> None:
        shard = self._open.pop(path, None)
        if shard is not None:
            shard.close()

    def __getstate__(self) -> dict:  # open files do not travel to workers
        return self.__dict__ | {"_open": OrderedDict()}


def loader(batches: Batches, start: int, stop: int, pin: bool = False) -> Iterator[Batch]:
    """Batches `start` to `stop` in order, read ahead by the configured workers, which are started at once.

    The server that they are forked from imports for all of them. Where each did for itself, which takes many
    seconds on a busy machine, those of a run that had ended meanwhile would find what they share gone, and
    say so at length.

    Raises
    ------
    InputError
        If the shared memory or the number of open files does not suffice, or as the iterator of a batch does.
    Failed
        If a worker was ended from outside, as where memory runs out; by the iterator, too.
    """
    workers = batches.config.stream.workers
    if workers and not _may_open(FEWEST_FILES):
        raise _no_room(os.strerror(errno.EMFILE))
    multiprocessing.set_forkserver_preload(["__main__", "synthfm.trainer.stream.preloaded"])
    multiprocessing.util.get_temp_dir()  # the workers use it, too: their own would stay where they are killed
    read: DataLoader[Batch] = DataLoader(
        range(start, stop),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=batches.attempt,  # type: ignore[arg-type]  # of a number, as there is no batch size
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        multiprocessing_context=WorkersContext() if workers else None,
        worker_init_fn=leave_group,
    )
    try:
        return _checked(iter(read))
    except OSError as error:  # of a worker that cannot be started
        _let_go(error)
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOSPC):
            raise
        raise _no_room(str(error)) from error
    except EOFError as error:  # of the server that they are forked from
        raise Failed(ENDED) from error


def _may_open(files: int) -> bool:
    """Whether this process may open so many files; its own limit is raised as far as the system's goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = min(files, hard) if hard != resource.RLIM_INFINITY else files
    if resource.RLIM_INFINITY != soft < least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    return least == files


def _let_go(error: OSError) -> None:
    """Let go of an iterator that could not be made whole; it ends its workers.

    Else it would go later, and PyTorch then prints that it misses what it was not given any more.
    """
    said, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = said


def _checked(attempts: Iterator[Batch | Packed | InputError | Failed | OSError]) -> Iterator[Batch]:
    """What :meth:`Batches.attempt` gives, unpacked, its error raised."""
    while True:
        try:
            batch = next(attempts)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise Failed(ENDED) from error
        if isinstance(batch, Packed):
            yield batch.unpacked()
        elif isinstance(batch, Batch):
            yield batch
        else:
            raise batch


def validation_batches(source: Source, config: TrainConfig, strict: bool) -> Iterator[Batch]:
    """The held-out samples, one a batch, not augmented, each object once.

    How training draws its prompts (`wide_boxes`, `clear_clicks`) does not count here. Where masks are carried
    in training, a slice that begins a run of a held-out volume comes with those that follow it. A sample that
    cannot be read is reported and left out; with `strict` it is an :class:`InputError`.
    """
    plain = augment.Augment(flip=0, rotate90=0)
    stream = config.stream.model_copy(update={"wide_boxes": 0.0, "clear_clicks": 0.0})
    for path, positions in zip(source.paths, source.held_out, strict=True):
        for found in _held_out(source, path, positions, config.prompts):
            if isinstance(found, InputError):
                if strict:
                    raise InputError(f"{found} (--strict)") from found
                log.warning("left out of the validation: %s", found)
                continue
            sample, run = found
            rng = np.random.default_rng([sample.index, 3])
            item = prepare(sample, stream, plain, rng, repeat=False, run=run)
            if item is not None:
                yield collate([item])


def _held_out(
    source: Source, path: Path, positions: NDArray[np.int64], prompts: Prompting
) -> Iterator[tuple[Sample, SlicesAfter | None] | InputError]:
    """Samples of a shard; in the place of one that cannot be read what is wrong, or of all if none can.

    With those of a volume that begin a run comes that run, one after the other.
    """
    if not len(positions):
        return
    try:
        shard = source.open(path)
    except InputError as error:
        yield error
        return
    with shard:
        for position in positions:
            try:
                sample, run = shard[int(position)], None
                length = prompts.carry_slices[1]
                if prompts.carry and sample.slice is not None and sample.slice.number % length == 0:
                    chance = np.random.default_rng([sample.index, 5])
                    run = slices_after(shard, int(position), length - 1, prompts.carry_apart, chance)
            except InputError as error:
                yield error
            else:
                yield sample, run
