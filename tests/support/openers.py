"""Good files of every kind and what opens each; a program that opens mutated ones of them, one after another.

``python -m tests.support.openers SEED FIRST STOP`` writes a line of JSON before and after each file. It is a
process of its own, as a library may end it, or never end.
"""

from __future__ import annotations

import io
import json
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthfm.data.console import Failed, InputError
from tests.support.mutations import mutated, mutated_json

SECONDS = 10
"""Of the processor, for each file."""
ROOM = 2 * 10**9
"""Bytes of memory in use, beyond what the program itself takes."""
ADDRESSES = 16 * 10**9
"""Bytes that may be asked for without being used, so that the machine is safe from what is tried here."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    make
        Writes good files into a folder; returns the one that is to be mutated.
    opened
        Opens it as the programs do.
    """

    name: str
    make: Callable[[Path], Path]
    opened: Callable[[Path], Any]


def _dataset(folder: Path) -> Path:
    from tests.support.ellipses import write_dataset

    return write_dataset(folder / "data", num=6, size=32, per_shard=3)


def _read_shard(path: Path) -> None:
    from synthfm.data.folder import check_sample, check_volumes
    from synthfm.data.shards import Shard

    with Shard(path) as shard:
        check_volumes(shard)
        for sample in shard:
            check_sample(sample)


def _read_dataset(path: Path) -> None:
    from synthfm.trainer.stream.stream import Source

    Source([path.parent], 0.2, 5)
    for command in ("verify", "stats"):
        _command("synthfm.generator.cli", command, path.parent)


def _command(module: str, *words: object) -> None:
    """A command in this process: it ends with 0, 1 or 2, and lines."""
    import importlib

    from click.testing import CliRunner

    result = CliRunner().invoke(importlib.import_module(module).main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    assert "Traceback" not in result.output, result.output


def _volume(suffix: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from tests.support.files import blocks, picture_of, write_itk

        label = blocks((4, 20, 24), [1, 2])
        return write_itk(folder / f"a{suffix}", picture_of(label, np.random.default_rng(0), **options))

    return make


def _voxels(suffix: str) -> Callable[[Path], Path]:
    """As :func:`_volume`, but the file beside the header is the one that is mutated."""

    def make(folder: Path) -> Path:
        header = _volume(suffix)(folder)
        (beside,) = [path for path in folder.iterdir() if path != header]
        return beside

    return make


def _picture(suffix: str, colours: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from tests.support.files import blocks, picture_of, write_picture

        image = picture_of(blocks((30, 40), [1, 2]), np.random.default_rng(0), "uint8")
        return write_picture(
            folder / f"a{suffix}", np.dstack([image, image // 2, image]) if colours else image
        )

    return make


def _tiff(**options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import tifffile

        from tests.support.files import blocks, picture_of

        stack = picture_of(blocks((4, 20, 24), [1]), np.random.default_rng(0), "uint16")
        tifffile.imwrite(folder / "a.tif", stack, photometric="minisblack", **options)
        return folder / "a.tif"

    return make


def _array(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import h5py

        from tests.support.files import blocks, picture_of

        image = picture_of(blocks((4, 20, 24), [1]), np.random.default_rng(0))
        path = folder / f"a{suffix}"
        if suffix == ".npz":
            np.savez_compressed(path, image=image)
        elif suffix == ".npy":
            np.save(path, image)
        else:
            with h5py.File(path, "w") as file:
                file.create_dataset("image", data=image, chunks=(1, 20, 24), compression="gzip")
        return path

    return make


def _dicom(folder: Path) -> Path:
    from tests.support.files import blocks, picture_of, write_dicom_series

    label = blocks((4, 20, 24), [1])
    return write_dicom_series(folder / "series", picture_of(label, np.random.default_rng(0)))[1]


def _read_scan(path: Path) -> None:
    from synthfm.evaluation.scans.scan import read_scan

    headers = [one for one in path.parent.iterdir() if one.suffix in (".mhd", ".nhdr", ".hdr")]
    scan = read_scan(headers[0] if headers else path)
    assert scan.shown[0].ndim in (2, 3)


def _read_series(path: Path) -> None:
    from synthfm.evaluation.scans.scan import read_scan

    read_scan(path.parent)


def _read_mask(path: Path) -> None:
    from synthfm.evaluation.formats.readers import count_frames, read_volume
    from synthfm.evaluation.formats.volume import Unreadable

    count_frames(path)
    read_volume(path)
    with suppress(Unreadable):  # what a picture shows may be no mask
        read_volume(path, mask=True)


def _predict(path: Path) -> None:
    """Without a model: what is asked lies beyond every image."""
    box = "--box=100000,100000,100002,100002,0"
    _command("synthfm.evaluation.cli", "predict", path, box, "--out", path.parent / "mask.nii.gz")


def _json(name: str, content: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(json.dumps(content))
        return folder / name

    return make


PROMPTS = {"scans": [{"scan": "a.nii", "world": False, "objects": [
    {"name": "gland", "boxes": [[10, 20, 90, 80, 5]], "points": [[30, 40, 5]], "labels": [1]},
]}]}  # fmt: skip
EXPORTED = {"seed": 0, "cases": [{"dataset": "d", "case": "c", "image": "a.nii", "size": [9, 9], "prompts": [
    {"setting": "box", "seed": 3, "points": [[1, 2]], "labels": [1], "box": [1, 2, 3, 4], "mask": "m.png",
     "object": "o"},
]}]}  # fmt: skip
MARKUPS = {"markups": [
    {"type": "Fiducial", "name": "F", "coordinateSystem": "LPS", "coordinateUnits": "mm",
     "controlPoints": [{"label": "F-1", "position": [1.0, 2.0, 3.0], "positionStatus": "defined"}]},
    {"type": "ROI", "center": [1, 2, 3], "size": [4, 5, 6], "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
]}  # fmt: skip


def _read_prompts(path: Path) -> None:
    from synthfm.evaluation.interactive.prompt_files import read_prompts

    read_prompts(path, [path.with_name("a.nii")])


def _seeds(path: Path) -> None:
    from synthfm.evaluation.methods.masks import exported_seeds

    exported_seeds(path.parent)


def _csv(folder: Path) -> Path:
    (folder / "a.csv").write_text(
        "object,x0,y0,x1,y1,slice,x,y,label\ngland,10,20,90,80,5,,,\nfat,,,,,4,30,40,0\n"
    )
    return folder / "a.csv"


def _run(name: str) -> Callable[[Path], Path]:
    """The folder of an evaluation, of which one file is mutated."""

    def make(folder: Path) -> Path:
        from tests.support.scores import two

        two().to_csv(folder / "scores.csv", index=False)
        (folder / "settings.json").write_text(json.dumps({"methods": {"a": "1", "b": "2"}, "seed": 0}))
        return folder / name

    return make


def _read_run(path: Path) -> None:
    from synthfm.evaluation.report.report import write_tables
    from synthfm.evaluation.scoring.scores import ScoresFile, claim, read_scores

    with suppress(InputError):
        claim(path.parent, {"methods": {"a": "1", "b": "2"}, "seed": 0})
    table = read_scores(path.parent)
    with tempfile.TemporaryDirectory() as out:
        write_tables(table, Path(out))
    ScoresFile(path.parent).close()


def _yaml(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.yaml").write_text(text)
        return folder / "a.yaml"

    return make


DESCRIPTOR = """\
title: Discs
modality: US
sources:
  - folder: discs
    image: images/{id:[a-z0-9]+}.png
    masks:
      - {file: "masks/{id}.png", labels: {disc: 255, all: [1, 255], many: 3..9}}
slices: {policy: step, step: 2, min_area: 4}
intensity: {window: [0, 255]}
spacing: [0.5, 0.5]
"""


def _descriptor(folder: Path) -> Path:
    from tests.support.cases import disc_folder

    root, _ = disc_folder(folder, count=3)
    (root / "a.yaml").write_text(DESCRIPTOR)
    return root / "a.yaml"


GENERATOR = "size: 64\nextends: full\n"
TRAINER = "extends: default\nsteps: 20\nbatch: 4\noptim: {lr: 0.001, warmup: 3}\nstream: {val_images: 4}\n"


def _read_descriptor(path: Path) -> None:
    from synthfm.evaluation.cases.cases import iter_cases
    from synthfm.evaluation.cases.descriptor import describe, load_descriptor

    descriptor = load_descriptor(str(path))
    describe(descriptor)
    list(iter_cases(descriptor, path.parent, limit=2))


def _read_generator(path: Path) -> None:
    from synthfm.generator.config import load_config

    load_config(str(path))


def _read_trainer(path: Path) -> None:
    from synthfm.trainer.config import load_config

    load_config(str(path), ())


def _read_recipe(path: Path) -> None:
    _command("synthfm.trainer.cli", "recipe", path, "--out", path.parent / "out", "--dry-run")


def _recipe(folder: Path) -> Path:
    from tests.trainer.test_recipe import SMALL

    (folder / "a.yaml").write_text(SMALL)
    return folder / "a.yaml"


def _tensors() -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    names = ("image_encoder.pos_embed", "mask_decoder.iou_token.weight", "prompt_encoder.a.bias")
    return {name: torch.randn(3, 5, generator=generator) for name in names}


def _weights(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from synthfm.trainer.model import checkpoints

        checkpoints.save(_tensors(), folder / f"a{suffix}")
        return folder / f"a{suffix}"

    return make


def _legacy(folder: Path) -> Path:
    import torch

    torch.save({"model": _tensors(), "epoch": 3}, folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


def _read_weights(path: Path) -> None:
    from synthfm.trainer.model import models
    from synthfm.trainer.model.checkpoints import read_weights

    models.identify(read_weights(path))


def _parts() -> Any:
    import torch
    from lightning_fabric.plugins import Precision

    from synthfm.trainer.run.state import Parts

    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Parts(layer, optimizer, None, Precision())  # type: ignore[arg-type]


RUN = {"config": {"steps": 9, "precision": "32"}, "inputs": {
    "shards": [["a", "1"]], "val": [], "checkpoint": None, "init_from": None, "embeddings": None,
}}  # fmt: skip


def _state(folder: Path) -> Path:
    from synthfm.trainer.run import state

    state.write(folder, RUN, _parts(), state.Position(step=3, best=0.5))
    return folder / "state.pt"


def _read_state(path: Path) -> None:
    from synthfm.trainer.run import state

    state.resume(path.parent, RUN, _parts())


def _cache(folder: Path) -> Path:
    import h5py

    from synthfm.data.shards import fixed_text

    with h5py.File(folder / "a.h5", "w", libver=("v110", "v110")) as file:
        file.attrs.update(format=fixed_text("synthfm-embeddings"), encoder=fixed_text("1" * 64), count=3)
        features = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float16)
        file.create_dataset("features", data=features, chunks=(1, 4, 2, 2), fletcher32=True)
    return folder / "a.h5"


def _read_cache(path: Path) -> None:
    from synthfm.data.guard import opening
    from synthfm.trainer.stream.embeddings import _open_cache

    features, _ = _open_cache(path)
    with features.file, opening(path, "corrupted"):
        for row in range(3):
            features[row]


KINDS = (
    Kind("shard", lambda folder: _dataset(folder) / "shard-00001.h5", _read_shard),
    Kind("manifest", lambda folder: _dataset(folder) / "manifest.json", _read_dataset),
    Kind("a dataset's shard", lambda folder: _dataset(folder) / "shard-00000.h5", _read_dataset),
    Kind("NIfTI", _volume(".nii"), _read_scan),
    Kind("NIfTI, gzip", _volume(".nii.gz"), _read_scan),
    Kind("NIfTI of fractions", _volume(".nii.gz", dtype="float32"), _predict),
    Kind("Analyze header", _volume(".hdr"), _read_scan),
    Kind("Analyze voxels", _voxels(".hdr"), _read_scan),
    Kind("MetaImage", _volume(".mha"), _read_scan),
    Kind("MetaImage header", _volume(".mhd"), _read_scan),
    Kind("MetaImage voxels", _voxels(".mhd"), _read_scan),
    Kind("NRRD", _volume(".nrrd"), _predict),
    Kind("NRRD header", _volume(".nhdr"), _read_scan),
    Kind("DICOM slice", _dicom, _read_scan),
    Kind("DICOM series", _dicom, _read_series),
    Kind("PNG", _picture(".png"), _read_scan),
    Kind("PNG in colour", _picture(".png", True), _read_mask),
    Kind("JPEG", _picture(".jpg", True), _predict),
    Kind("GIF", _picture(".gif"), _read_mask),
    Kind("BMP", _picture(".bmp"), _read_scan),
    Kind("TIFF", _tiff(), _read_scan),
    Kind("TIFF, deflate", _tiff(compression="zlib"), _read_mask),
    Kind("npz", _array(".npz"), _read_mask),
    Kind("npy", _array(".npy"), _read_scan),
    Kind("HDF5", _array(".h5"), _read_mask),
    Kind("prompts", _json("a.json", PROMPTS), _read_prompts),
    Kind("exported prompts", _json("prompts.json", EXPORTED), _read_prompts),
    Kind("seeds", _json("prompts.json", EXPORTED), _seeds),
    Kind("markups", _json("a.mrk.json", MARKUPS), _read_prompts),
    Kind("CSV of prompts", _csv, _read_prompts),
    Kind("scores", _run("scores.csv"), _read_run),
    Kind("settings", _run("settings.json"), _read_run),
    Kind("descriptor", _descriptor, _read_descriptor),
    Kind("generator's preset", _yaml(GENERATOR), _read_generator),
    Kind("trainer's preset", _yaml(TRAINER), _read_trainer),
    Kind("recipe", _recipe, _read_recipe),
    Kind("weights", _weights(".pth"), _read_weights),
    Kind("weights, old", _legacy, _read_weights),
    Kind("safetensors", _weights(".safetensors"), _read_weights),
    Kind("state", _state, _read_state),
    Kind("embeddings", _cache, _read_cache),
)


def tried(kind: Kind, path: Path) -> tuple[str, str]:
    """What opening a file ended in: ``opened``, ``refused`` or ``crashed``, and what was said."""
    from synthfm.evaluation.formats.volume import Unreadable

    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            kind.opened(path)
    except (InputError, Failed, Unreadable) as error:
        return "refused", str(error)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.strerror:
            return "refused", str(error)
        return "crashed", traceback.format_exc()[-2000:]
    return "opened", ""


def main(seed: int, first: int, stop: int) -> None:
    """Open the files `first` to `stop` of a seed; each is known by its number alone."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    bounded, before = False, 0
    with tempfile.TemporaryDirectory() as top:
        good: dict[str, tuple[Path, bytes]] = {}
        for number in range(first, stop):
            kind = KINDS[number % len(KINDS)]
            if kind.name not in good:
                folder = Path(top) / str(number % len(KINDS))
                folder.mkdir()
                path = kind.make(folder)
                good[kind.name] = path, path.read_bytes()
                if kind.opened is not _predict:  # what it asks for is refused of good files, too
                    assert tried(kind, path)[0] == "opened", (kind.name, tried(kind, path))
                path.write_bytes(good[kind.name][1])
            path, content = good[kind.name]
            rng = np.random.default_rng([seed, number])
            structured = path.suffix == ".json" and rng.random() < 0.6
            path.write_bytes((mutated_json if structured else mutated)(content, rng))
            if len(good) == min(len(KINDS), stop - first) and not bounded:
                taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, resource.RLIM_INFINITY))
                before, bounded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, True
            print(json.dumps({"number": number, "kind": kind.name}), flush=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            outcome, said = tried(kind, path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            used = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) if bounded else 0
            if used > ROOM:
                outcome, said = "took too much", f"{used} bytes; {said}"
                before += used // 1024
            print(
                json.dumps({"number": number, "kind": kind.name, "outcome": outcome, "said": said}),
                flush=True,
            )
            path.write_bytes(content)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
