"""Scores made on the spot, for the tests of tables and reports."""

import numpy as np
import pandas as pd

from synthfm.evaluation.scoring.scores import COLUMNS, NEWER


def rows(method="a", *, dataset="ct", structure="liver", volumes=6, slices=3, dsc=0.8, spread=0.05, seed=0,
         prompt="box", **change):  # fmt: skip
    """Rows of one method on one structure, DSC drawn around `dsc`."""
    rng = np.random.default_rng(seed)
    lines = []
    for volume in range(volumes):
        for k in range(slices):
            value = float(np.clip(dsc + spread * rng.normal(), 0, 1))
            lines.append(
                dict.fromkeys(COLUMNS, 0)
                | dict.fromkeys(NEWER)  # of volumes
                | {"dataset": dataset, "modality": dataset.upper()[:2], "case": f"v{volume}/z{k}"}
                | {
                    "volume": f"v{volume}",
                    "patient": f"p{volume}",
                    "slice": k,
                    "structure": structure,
                    "prompt": prompt,
                    "round": 1,
                }
                | {"clicks": 1, "method": method, "dsc": value, "iou": value / (2 - value), "unit": "mm"}
                | {"hd95": 10 * (1 - value), "surface_dice": value, "tolerance": 2.0}
                | {"predicted_iou": value**2, "reference_pixels": 100, "predicted_pixels": 100}
                | {"shared_pixels": int(100 * value), "volume_voxels": 400}
                | {"encode_seconds": 0.2, "predict_seconds": 0.01}
                | change
            )
    return pd.DataFrame(lines, columns=COLUMNS)


def two(**change):
    return pd.concat(
        [rows("a", dsc=0.85, **change), rows("b", dsc=0.75, seed=1, **change)], ignore_index=True
    )


def clicks(curves, method="a"):
    lines = []
    for case, curve in enumerate(curves):
        for turn, dsc in enumerate(curve, start=1):
            lines.append(
                rows(method, volumes=1, slices=1, prompt=f"clicks:{len(curve)}").iloc[0].to_dict()
                | {"case": f"c{case}", "volume": f"c{case}", "round": turn, "clicks": turn, "dsc": dsc}
            )
    return pd.DataFrame(lines)
