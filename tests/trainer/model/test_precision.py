"""bfloat16 where the machine computes in it, float32 elsewhere."""

import logging

import pytest

from synthfm.trainer.model import precision


@pytest.mark.parametrize(
    ("features", "limit", "expected"),
    [
        ({"avx2": True, "avx512f": True}, None, "32"),
        ({"avx2": True, "avx512bf16": True}, None, "bf16"),
        ({"amx-bf16": True}, "ALL", "bf16"),
        ({"amx-bf16": True}, "avx2", "32"),
        ({"avx512bf16": True, "amx-bf16": True}, "AVX512_CORE_BF16", "bf16"),
        ({"neon": True, "bf16": True}, None, "bf16"),
    ],
)
def test_auto_asks_the_processor(monkeypatch, features, limit, expected):
    monkeypatch.setattr(precision, "get_host_cpu_features", lambda: features)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert precision.resolve("auto", "cpu") == expected


@pytest.mark.parametrize("native", [True, False])
def test_what_bf16_costs_is_said_where_it_is_imitated(monkeypatch, caplog, native):
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: native)
    with caplog.at_level(logging.INFO):
        assert precision.resolve("bf16", "cpu") == "bf16"
    assert ("as long as in float32" in caplog.text) is not native


def test_what_is_asked_for_is_taken():
    assert precision.resolve("32", "cpu") == "32"
    assert precision.resolve("16", "cuda") == "16"
