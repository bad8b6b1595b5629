"""Killed between write, flush and rename, or on a full disk: a file is the old one or the new one."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from synthfm.data.files import check_digest, forget_digest, write_atomically, write_digest
from synthfm.data.folder import Manifest, read_manifest, write_manifest
from synthfm.data.shards import Shard
from synthfm.evaluation.scoring.scores import Row, ScoresFile, read_scores
from synthfm.trainer.model import checkpoints
from synthfm.trainer.run import state
from tests.support.faults import faulty, killed
from tests.support.openers import RUN, _parts
from tests.support.shards import random_samples, write_shard


@dataclass(frozen=True)
class Operation:
    """Something that writes a file: version 0, then 1 over it; and what is read back."""

    name: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], int]


def _write_tensors(path: Path, version: int) -> None:
    checkpoints.save({"a.weight": torch.full((3, 4), float(version))}, path)


def _read_tensors(path: Path) -> int:
    return int(checkpoints.read_weights(path)["a.weight"][0, 0])


def _write_state(path: Path, version: int) -> None:
    state.write(path.parent, RUN, _parts(), state.Position(step=version))


def _read_state(path: Path) -> int:
    return state.resume(path.parent, RUN, _parts()).step


def _write_with_digest(path: Path, version: int) -> None:
    forget_digest(path)
    write_atomically(path, str(version))
    write_digest(path)


def _read_with_digest(path: Path) -> int:
    check_digest(path)
    return int(path.read_text())


OPERATIONS = (
    Operation("a.json", lambda path, k: write_atomically(path, str(k)), lambda path: int(path.read_text())),
    Operation(
        "manifest.json",
        lambda path, k: write_manifest(path.parent, Manifest({}, "1", k, 0, 1, ())),
        lambda path: read_manifest(path.parent).root_seed,
    ),
    Operation(
        "shard-00000.h5",
        lambda path, k: write_shard(path, random_samples(k, 2), root_seed=k),
        lambda path: _seed_of(path),
    ),
    Operation("a.pth", _write_tensors, _read_tensors),
    Operation("a.safetensors", _write_tensors, _read_tensors),
    Operation("state.pt", _write_state, _read_state),
    Operation("a.onnx", _write_with_digest, _read_with_digest),
)
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def _seed_of(path: Path) -> int:
    with Shard(path) as shard:
        assert len(list(shard)) == 2
        return shard.root_seed


@EACH
def test_killed_at_any_call_a_file_is_the_old_one_or_the_new_one(operation, tmp_path):
    path = tmp_path / operation.name
    operation.write(path, 0)
    seen = []
    for at in itertools.count(1):
        ended = not killed(at, lambda: operation.write(path, 1))
        seen.append(operation.read(path))
        if ended:
            break
        if seen[-1] == 1:
            operation.write(path, 0)
    assert {0, 1} == set(seen)
    assert seen[-1] == 1
    assert len(seen) > 2  # opened, written, synced, renamed


@EACH
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_where_nothing_can_be_written_the_error_names_the_file_and_the_old_one_stays(
    operation, number, tmp_path
):
    path = tmp_path / operation.name
    operation.write(path, 0)
    before = sorted(tmp_path.iterdir())

    def fails() -> None:
        raise OSError(number, os.strerror(number))

    for at in itertools.count(1):
        raised: OSError | None = None
        with faulty(at, fails) as calls:
            try:
                operation.write(path, 1)
            except OSError as error:
                raised = error
        if raised is not None:
            assert raised.errno == number, calls
            assert raised.filename in (None, str(path), f"{path}.sha256")
        assert operation.read(path) in (0, 1)
        assert {one.name for one in tmp_path.iterdir()} <= {one.name for one in before}, calls
        if raised is None:
            break
        operation.write(path, 0)
    assert operation.read(path) == 1


def _row(case: str, method: str) -> Row:
    values: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__, 0)
    texts = ("dataset", "modality", "volume", "patient", "structure", "prompt", "unit")
    return Row(**{**values, **dict.fromkeys(texts, "x"), "case": case, "method": method, "dsc": 0.5})


def test_killed_while_scores_are_written_no_row_is_lost_or_doubled(tmp_path):
    def work() -> None:
        with ScoresFile(tmp_path) as file:
            for case in ("a", "b", "c"):
                if ("x", case, "m") not in file.done:
                    file.append([_row(case, "m"), _row(case, "n")])

    for at in itertools.count(1):
        if not killed(at, work):
            break
    found = read_scores(tmp_path)
    assert sorted(zip(found["case"], found["method"], strict=True)) == [
        (case, method) for case in "abc" for method in "mn"
    ]
