"""All figures of speed that the pages show beside others' and by their growth: ``make bench``.

Each part is a program of its own, which writes its files of ``data/results``; after each, what it measured
goes into ``benchmarks/results.json``: the machine, day, load, versions and command, and its files' rows.
A part that is not asked for stays there as it was. In the end the pages' tables are written.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from tables import RESULTS, read_table

HERE = Path(__file__).parent
ROOT = HERE.parent
SHOWN = HERE / "results.json"
PACKAGES = ("synthfm", "numpy", "scipy", "numba", "h5py", "torch")
VECTORS = {
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
}
NEWER = "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": NEWER,  # it passes over names that its version does not have
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""What keeps NumPy, Numba, OpenBLAS, PyTorch, oneDNN and MKL from anything newer than that."""


@dataclass(frozen=True)
class Part:
    """A program with its options, and the files of ``data/results`` that it writes."""

    command: str
    files: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


PARTS = {
    "generator": Part(
        "bench_generate.py --out data/results", ("speed_generator.csv", "generator_stages.csv")
    ),
    "filters": Part("bench_filters.py --out data/results/filters.csv", ("filters.csv",)),
    "growth": Part("bench_growth.py --out data/results/growth.csv", ("growth.csv",)),
    "peers": Part("bench_peers.py --compiled --out data/results/peers.csv", ("peers.csv", "peers_goals.csv")),
    "avx2": Part(
        "bench_peers.py --only images256 --out data/results/peers_avx2.csv",
        ("peers_avx2.csv", "peers_avx2_goals.csv"),
        AVX2,
    ),
}


@click.command()
@click.option("--only", help=f"Some of {', '.join(PARTS)}, by commas.")
@click.option("--rounds", default=3, show_default=True, help="Of every part.")
@click.option("--works", help="Of the part `peers` these works alone, by commas; rows of the others stay.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the part `peers`; rows of one thread stay.")
def main(only: str | None, rounds: int, works: str | None, threads: int | None) -> None:
    """Measure, write results.json and the CSV files, and the tables of the pages."""
    names = only.split(",") if only else list(PARTS)
    for name in names:
        if name not in PARTS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(PARTS)}", param_hint="--only")
    failed = []
    for name in names:
        options = ["--rounds", str(rounds)]
        if name == "peers":
            options += ["--only", works] if works else []
            options += ["--threads", str(threads)] if threads else []
        found = measured(PARTS[name], options)
        if found is None:
            failed.append(name)
        else:
            record(SHOWN, name, found, whole=name != "peers" or not (works or threads))
    subprocess.run([sys.executable, ROOT / "docs" / "make_tables.py"], check=True)
    if failed:
        raise SystemExit(f"failed, and stay as they were: {', '.join(failed)}")


def measured(part: Part, options: list[str]) -> dict[str, Any] | None:
    """Run a part; what ``results.json`` says of the run, or None where it failed."""
    program, *rest = shlex.split(part.command)
    command, load = [program, *rest, *options], os.getloadavg()
    print(f"{' '.join(command)}, load {load[0]:.1f}", flush=True)
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | part.environment
    with tempfile.TemporaryDirectory() as cache:
        if "NUMBA_CPU_NAME" in part.environment:  # what is compiled for another processor is kept elsewhere
            environment["NUMBA_CACHE_DIR"] = cache
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", HERE / program, *command[1:]], cwd=ROOT, env=environment
        )
    if ran.returncode:
        return None
    return {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", f"benchmarks/{program}", *command[1:]]),
        "environment": part.environment,
        "seconds": round(time.perf_counter() - began),
        "load before": [round(value, 2) for value in load],
        "load after": [round(value, 2) for value in os.getloadavg()],
        "machine": machine(),
        "versions": versions(),
    }


def record(path: Path, name: str, run: dict[str, Any], whole: bool) -> None:
    """Put what a part's files hold beside the other parts; a run of works alone beside its other runs."""
    parts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    earlier = parts[name]["runs"] if name in parts and not whole else []
    rows = {file: read_table(RESULTS / file) for file in PARTS[name].files}
    parts[name] = {"runs": [*earlier, run], "rows": rows}
    ordered = {known: parts[known] for known in PARTS if known in parts}
    path.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """The processor's name, model and vector extensions, cores here and cores that may be used."""
    told: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        lines = (
            line.partition(":") for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        )
        told = {name.strip(): value.strip() for name, _, value in lines}
    has = set(told.get("flags", told.get("Features", "")).split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "family, model, stepping": [
            told[name] for name in ("cpu family", "model", "stepping") if name in told
        ],
        "vector extensions": sorted(VECTORS & has),
        "cores": os.cpu_count(),
        "cores used": usable,
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Of Python and of what does the computing; a peer's stands in its row."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


if __name__ == "__main__":
    main()
