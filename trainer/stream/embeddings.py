"""The embedding cache: with a frozen encoder each image is encoded once.

A cache is a folder of HDF5 files, one for each shard: ``features`` float16 (N, C, h, w) in the shard's order,
with checksums. Attributes say by which encoder (a hash of its weights) and from which shard (its SHA-256) it
was made.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional as F

from synthfm.data.chunks import sound_dataset
from synthfm.data.console import Failed, InputError, Progress
from synthfm.data.files import locked, replacing
from synthfm.data.folder import read_manifest
from synthfm.data.guard import opening
from synthfm.data.shards import Shard, fixed_text, read_text
from synthfm.trainer.model import look

FORMAT = "synthfm-embeddings"


def encoder_hash(sam: Sam) -> str:
    """SHA-256 over the image encoder's weights and the normalisation, in hexadecimal."""
    digest = hashlib.sha256()
    weights = sorted(sam.image_encoder.state_dict().items())
    for name, value in [*weights, ("pixel_mean", sam.pixel_mean), ("pixel_std", sam.pixel_std)]:
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fit_to_input(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images (B, 1, H, W) with their longest side brought to `size`, as SAM's ``apply_image_torch``."""
    if max(images.shape[-2:]) == size:
        return images
    target = ResizeLongestSide.get_preprocess_shape(*images.shape[-2:], size)
    resized = F.interpolate(images.float(), target, mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255)


def _plan(folders: Sequence[str | Path]) -> dict[Path, tuple[str, int]]:
    """Each shard's name in the cache and number of samples."""
    plan: dict[Path, tuple[str, int]] = {}
    for folder in folders:
        for line in read_manifest(folder).shards:
            name = f"{Path(line.file).stem}-{line.sha256[:12]}.h5"
            plan[(Path(folder) / line.file).resolve()] = (name, line.count)
    return plan


def disk_needed(sam: Sam, folders: Sequence[str | Path]) -> int:
    """Bytes that the cache of these dataset folders will take at most."""
    rows, columns = sam.prompt_encoder.image_embedding_size
    count = sum(samples for _, samples in _plan(folders).values())
    return count * rows * columns * sam.prompt_encoder.embed_dim * 2


def in_bytes(number: int) -> str:
    """A number of bytes as text.

    >>> in_bytes(26_200_000), in_bytes(3_400_000_000)
    ('26.2 MB', '3.4 GB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


@torch.no_grad()
def embed(
    sam: Sam, folders: Sequence[str | Path], out: Path, batch: int = 8, progress: bool = True
) -> tuple[int, int]:
    """Encode every image of the dataset folders into `out`; files that are there already are kept.

    Returns
    -------
    written, kept
        Numbers of shards.

    Raises
    ------
    InputError
        If the disk has too little room, `out` holds another encoder's cache, or another process fills it.
    Failed
        If the memory does not suffice for `batch` images, or, once all others are done, shards are damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "synthfm-train embed"):
        return _embed(sam, folders, out, batch, progress)


def _embed(sam: Sam, folders: Sequence[str | Path], out: Path, batch: int, progress: bool) -> tuple[int, int]:
    own = encoder_hash(sam)
    plan = _plan(folders)
    todo = {path: name for path, (name, _) in plan.items() if not _is_of(out / name, own)}
    share = sum(plan[path][1] for path in todo) / max(sum(count for _, count in plan.values()), 1)
    needed, free = int(disk_needed(sam, folders) * share), shutil.disk_usage(out).free
    if needed > free:
        raise InputError(f"{out}: the cache needs up to {in_bytes(needed)}, {in_bytes(free)} are free")
    total = sum(plan[path][1] for path in todo)
    bad: list[InputError] = []
    with Progress(total=total, unit="image", disable=not progress) as bar:
        for path, name in todo.items():
            try:
                _embed_shard(sam, path, out / name, own, batch, bar)
            except InputError as error:  # a damaged shard costs itself alone, as in training
                bad.append(error)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise Failed(f"{path}: out of memory with {batch} images at a time: lower --batch") from error
    if bad:
        raise Failed(f"{len(bad)} of {len(plan)} shards are left out, the first: {bad[0]}")
    return len(todo), len(plan) - len(todo)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; on the CPU torch has no type for that."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)


def _is_of(path: Path, own: str) -> bool:
    if not path.is_file():
        return False
    features, encoder = _open_cache(path)
    features.file.close()
    if encoder != own:
        raise InputError(f"{path}: made by another encoder; choose an empty folder, or remove this one")
    return True


def _open_cache(path: Path) -> tuple[h5py.Dataset, str]:
    """The embeddings in a file of a cache, and the hash of the encoder that made them."""
    with opening(path, "not an embedding cache, or cut short; remove it and embed again"):
        file = h5py.File(path, "r")
        try:
            if read_text(file.attrs.get("format", "")) != FORMAT:
                raise InputError(f"{path}: not an embedding cache")
            features = sound_dataset(file, "features", path, whole=False)
            if features.ndim != 4 or features.dtype != np.float16 or len(features) != file.attrs["count"]:
                raise ValueError(f"features {features.dtype} {features.shape}")
            return features, read_text(file.attrs["encoder"])
        except BaseException:
            file.close()
            raise


def _is_damaged(shard: Path) -> bool:
    try:
        with Shard(shard) as opened:
            for row in range(len(opened)):
                opened[row]
    except InputError:
        return True
    return False


class _Target(io.FileIO):
    """The file that HDF5 writes to. HDF5 crashes after a write that fails, as on a full disk.

    So a write never fails to it, and :meth:`check` raises the first failure.
    """

    failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write all of `content`, unless something has failed."""
        rest = memoryview(content).cast("B")
        while self.failure is None and len(rest):
            with self._noting():
                rest = rest[super().write(rest) :]
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's length, unless something has failed."""
        if self.failure is None:
            with self._noting():
                super().truncate(size)
        return size or 0

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error

    def check(self) -> None:
        """Raise what went wrong, naming the file."""
        if self.failure is not None:
            raise OSError(self.failure.errno, self.failure.strerror, str(self.name)) from self.failure


def _embed_shard(sam: Sam, path: Path, target: Path, own: str, batch: int, bar: Progress) -> None:
    size = sam.image_encoder.img_size
    with replacing(target) as partial, Shard(path) as shard, _Target(partial, "w+") as raw:
        with h5py.File(raw, "w", libver=("v110", "v110")) as file:  # its headers have checksums
            file.attrs.update(
                format=fixed_text(FORMAT),
                encoder=fixed_text(own),
                shard=fixed_text(path.name),
                count=len(shard),
            )
            shape = (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
            features = file.create_dataset(
                "features", (len(shard), *shape), "float16", chunks=(1, *shape), fletcher32=True
            )
            for start in range(0, len(shard), batch):
                images = [shard[i].image[None] for i in range(start, min(start + batch, len(shard)))]
                tensor = torch.from_numpy(np.stack(images)).to(sam.device)
                encoded = look.encode(sam, fit_to_input(tensor, size)).half()
                if not torch.isfinite(encoded).all():
                    raise Failed(f"{path}: its embeddings are NaN, or beyond the range of half precision")
                features[start : start + len(images)] = encoded.cpu().numpy()
                raw.check()
                bar.update(len(images))
        raw.check()


class Cache:
    """Reads embeddings by shard and row.

    Parameters
    ----------
    folder
        What :func:`embed` has written.
    own
        The :func:`encoder_hash` that it must fit.
    folders
        The dataset folders that are trained on.
    window
        Most files that are open at once: those of `stream.window` shards are read by turns.

    Raises
    ------
    InputError
        If a shard is not in the cache or another encoder made it.
    """

    def __init__(self, folder: str | Path, own: str, folders: Sequence[str | Path], window: int = 16) -> None:
        self._window = window
        self._files = {path: Path(folder) / name for path, (name, _) in _plan(folders).items()}
        self._open: OrderedDict[Path, h5py.Dataset] = OrderedDict()  # finding one takes longer than a row
        for source, path in self._files.items():
            if not path.is_file():
                if _is_damaged(source):
                    continue  # none of its samples is read
                raise InputError(f"{folder}: holds no embeddings of {source}; run synthfm-train embed")
            features, encoder = _open_cache(path)
            features.file.close()
            if encoder != own:
                raise InputError(
                    f"{path}: made by another encoder than the run's (hash {encoder[:12]}, "
                    f"not {own[:12]}); run synthfm-train embed with the run's checkpoint"
                )

    def read(self, shard: Path, row: int) -> NDArray[np.float16]:
        """The embedding of one sample, float16 (C, h, w)."""
        path = self._files[shard.resolve()]
        with opening(path, "corrupted; remove it and embed again"):
            return self._features(path)[row]

    def _features(self, path: Path) -> h5py.Dataset:
        if path not in self._open:
            if len(self._open) >= self._window:
                self._open.popitem(last=False)[1].file.close()
            self._open[path], _ = _open_cache(path)
        self._open.move_to_end(path)
        return self._open[path]

    def __getstate__(self) -> dict:  # open files do not travel to workers
        return self.__dict__ | {"_open": OrderedDict()}
