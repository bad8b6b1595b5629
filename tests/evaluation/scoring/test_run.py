"""Runs: rows as promised, resumed where they stopped, a crash costs one case."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthfm.data.console import InputError, Interrupted
from synthfm.evaluation.cases import prompting
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.methods import registry
from synthfm.evaluation.methods.method import Options, Predicted, Unavailable
from synthfm.evaluation.scoring import overlays
from synthfm.evaluation.scoring.ask import ask, case_prompts
from synthfm.evaluation.scoring.run import run, score_answers, score_threads
from synthfm.evaluation.scoring.scores import COLUMNS, ScoresFile, claim, read_scores
from synthfm.evaluation.session import build_methods, evaluate
from tests.support.cases import descriptor as described
from tests.support.cases import disc_case, disc_folder
from tests.support.files import write_pair


class Oracle:
    """Answers with the reference of a folder of discs, wrongly where told; counts what it is asked."""

    def __init__(self, name="oracle", wrong=0, crash=(), stop=None):
        self.name, self.wrong, self.crash, self.stop = name, wrong, crash, stop
        self.encoded = 0
        self.batches = []

    def accepts(self, setting):
        return True

    def encode(self, image):
        self.encoded += 1
        if self.stop is not None and self.encoded > self.stop:
            raise KeyboardInterrupt
        return image

    def predict(self, encoded, prompts, previous=()):
        self.batches.append(len(prompts))
        if prompts[0].key.case in self.crash:
            raise RuntimeError("out of luck")
        mask = encoded > 135  # the noise stays below, the disc above
        mask[: self.wrong] = False
        return [Predicted(mask, 0.5, state=len(prompt.points)) for prompt in prompts]


@pytest.fixture
def discs(tmp_path):
    root, descriptor = disc_folder(tmp_path)
    return root, load_descriptor(str(descriptor)), tmp_path / "out"


CONFIG = EvalConfig(prompts=("box", "point1", "clicks:2"), overlays=2)


def go(discs, method, config=CONFIG):
    root, descriptor, out = discs
    claim(out, config.model_dump(mode="json"))
    return run([descriptor], root, method if isinstance(method, list) else [method], config, out)


def test_one_row_per_case_object_prompt_round_and_method(discs):
    assert go(discs, [Oracle("a"), Oracle("b")]) == []
    scores = read_scores(discs[2])
    assert list(scores.columns) == COLUMNS
    assert len(scores) == 4 * 2 * (1 + 1 + 2)
    assert not scores.duplicated(["case", "prompt", "round", "method"]).any()
    assert (scores["dsc"] > 0.9).all()
    assert set(scores["clicks"][scores["prompt"] == "clicks:2"]) == {1, 2}
    assert (scores["prompt_seed"].groupby([scores["case"], scores["prompt"]]).nunique() == 1).all()


def test_times_estimates_and_volumes_stand_in_the_rows(tmp_path, monkeypatch):
    """A clock that moves on by one second a look: an encoding takes 1 s, a batch 1 s over its prompts."""
    label = np.zeros((6, 60, 72), np.uint8)
    label[2:5, 20:40, 20:50] = 1
    label[4, 30:] = 0
    write_pair(tmp_path, "a", label, np.where(label > 0, 200, 90).astype(np.int16))
    ticks = iter(range(10**6))
    monkeypatch.setattr(
        "synthfm.evaluation.scoring.ask.time", SimpleNamespace(perf_counter=lambda: next(ticks))
    )
    wanted = described(intensity={"window": [0, 255]}, masks={"absent": "skip"})
    assert go((tmp_path, wanted, tmp_path / "out"), Oracle("m")) == []
    scores = read_scores(tmp_path / "out")
    assert list(scores["reference_pixels"].unique()) == [600, 300]
    assert (scores["volume_voxels"] == 2 * 600 + 300).all()
    assert (scores["predicted_iou"] == 0.5).all()
    assert (scores["encode_seconds"] == 1).all()
    first = scores["round"] == 1
    np.testing.assert_allclose(scores["predict_seconds"][first], 1 / 3, rtol=1e-5)
    assert (scores["predict_seconds"][~first] == 1).all()


def test_what_is_unknown_is_an_empty_field(discs):
    class Silent(Oracle):
        def predict(self, encoded, prompts, previous=()):
            return [Predicted(answer.mask) for answer in super().predict(encoded, prompts)]

    go(discs, Silent("m"))
    scores = read_scores(discs[2])
    assert scores["predicted_iou"].isna().all()
    assert scores["volume_voxels"].isna().all()  # images: there is no volume


def test_an_estimate_that_is_no_number_is_an_empty_field_and_costs_nobody_the_table(discs):
    class Diverged(Oracle):
        def predict(self, encoded, prompts, previous=()):
            return [Predicted(answer.mask, float("nan")) for answer in super().predict(encoded, prompts)]

    go(discs, [Diverged("m"), Oracle("other")])
    scores = read_scores(discs[2])
    assert set(scores["method"]) == {"m", "other"}
    assert scores["predicted_iou"].isna().sum() == len(scores) / 2
    path = discs[2] / "scores.csv"  # as files of before have it
    path.write_text(path.read_text().replace(",,", ",nan,", 1))
    assert read_scores(discs[2])["predicted_iou"].isna().sum() == len(scores) / 2


def test_an_image_is_encoded_once_and_settings_share_a_batch(discs):
    method = Oracle()
    go(discs, method)
    assert method.encoded == 4
    assert method.batches == [3, 1] * 4


def test_the_answers_of_the_round_before_come_back():
    seen = []

    class Remembers(Oracle):
        def predict(self, encoded, prompts, previous=()):
            seen.append([one.state for one in previous])
            return super().predict(encoded, prompts, previous)

    case = disc_case(0, second=True)
    ask(Remembers(), case, case_prompts(case, ["clicks:3"], 0))
    assert seen == [[], [1, 1], [2, 2]]


def test_a_crash_costs_that_case_and_method(discs):
    failures = go(discs, [Oracle("good"), Oracle("bad", crash=("p1",))])
    assert [(item.case, item.method) for item in failures] == [("p1", "bad")]
    assert "out of luck" in failures[0].reason
    scores = read_scores(discs[2])
    assert set(scores["case"][scores["method"] == "bad"]) == {"p0", "p2", "p3"}
    assert set(scores["case"][scores["method"] == "good"]) == {"p0", "p1", "p2", "p3"}
    with open(discs[2] / "failures.csv") as handle:
        assert [row["case"] for row in csv.DictReader(handle)] == ["p1"]


def test_what_crashed_is_tried_again_by_the_next_run(discs):
    go(discs, Oracle("m", crash=("p1",)))
    again = Oracle("m")
    assert go(discs, again) == []
    assert sorted(read_scores(discs[2])["case"].unique()) == ["p0", "p1", "p2", "p3"]
    assert again.encoded == 2  # p1, and the last case, which may have been cut short


@pytest.mark.parametrize("shape", [(1, 200), (200, 1)])
def test_a_thin_object_is_scored_and_drawn(discs, shape):
    root, _, out = discs
    image = np.random.default_rng(0).integers(0, 255, (260, 260), np.uint8)
    mask = np.zeros_like(image)
    mask[30 : 30 + shape[0], 30 : 30 + shape[1]] = 255
    Image.fromarray(image).save(root / "discs" / "images" / "p1.png")
    Image.fromarray(mask).save(root / "discs" / "masks" / "p1.png")
    assert go(discs, Oracle("m"), CONFIG.model_copy(update={"overlays": 9})) == []
    assert set(read_scores(out)["case"]) == {"p0", "p1", "p2", "p3"}
    assert len(list((out / "overlays").rglob("*__p1.png"))) == 3


def test_a_picture_that_crashes_costs_no_rows(discs, monkeypatch):
    def panels(case, by_method):
        if case.case == "p1":
            raise ValueError("no such colour")
        return Image.new("L", (9, 9))

    monkeypatch.setattr(overlays, "panels", panels)
    (failure,) = go(discs, [Oracle("a"), Oracle("b")], CONFIG.model_copy(update={"overlays": 9}))
    assert (failure.case, failure.method) == ("p1", "")
    assert failure.reason == "picture: ValueError: no such colour"
    assert len(read_scores(discs[2])) == 4 * 2 * (1 + 1 + 2)


def test_a_prompt_that_cannot_be_drawn_costs_its_case(discs, monkeypatch):
    draw = prompting.make_prompt

    def make_prompt(mask, key, root):
        if key[1] == "p2":
            raise IndexError("no pixel left")
        return draw(mask, key, root)

    monkeypatch.setattr(prompting, "make_prompt", make_prompt)
    failures = go(discs, Oracle("m"))
    assert {item.case for item in failures} == {"p2"}
    assert failures[0].reason == "prompts: IndexError: no pixel left"
    assert set(read_scores(discs[2])["case"]) == {"p0", "p1", "p3"}


def test_strokes_that_nobody_drew_cost_that_setting(discs):
    failures = go(discs, Oracle("m"), EvalConfig(prompts=("box", "strokes:1"), overlays=0))
    assert [item.case for item in failures] == ["p0", "p1", "p2", "p3"]
    assert failures[0].reason.startswith("prompts: strokes:1: 0 people's strokes are with ")
    assert set(read_scores(discs[2])["prompt"]) == {"box"}


def test_a_wrong_mask_shape_is_a_failure_of_the_case(discs):
    class Small(Oracle):
        def predict(self, encoded, prompts, previous=()):
            return [Predicted(np.ones((3, 3), bool)) for _ in prompts]

    failures = go(discs, [Oracle("a"), Small("b")], EvalConfig(prompts=("box",)))
    assert len(failures) == 4
    assert "(3, 3)" in failures[0].reason


def test_an_interrupted_run_goes_on_and_ends_with_the_same_scores(discs, tmp_path):
    with pytest.raises(Interrupted, match="same command"):
        go(discs, Oracle("m", stop=2))
    first = (discs[2] / "scores.csv").read_text()
    (discs[2] / "scores.csv").write_text(first[:-20])  # a torn last line, as after a power cut
    again = Oracle("m")
    go(discs, again)
    assert again.encoded == 3
    whole = (discs[0], discs[1], tmp_path / "whole")
    go(whole, Oracle("m"))
    times = ["encode_seconds", "predict_seconds"]
    keys = ["case", "prompt", "round"]
    pd.testing.assert_frame_equal(
        *(
            read_scores(out).drop(columns=times).sort_values(keys, ignore_index=True)
            for out in (discs[2], whole[2])
        )
    )


def test_a_finished_run_does_almost_nothing_again(discs):
    go(discs, Oracle("m"))
    again = Oracle("m")
    go(discs, again)
    assert again.encoded == 1


def test_other_settings_are_refused_and_named(discs):
    go(discs, Oracle("m"))
    with pytest.raises(InputError, match="seed: 0 there, 1 now"):
        go(discs, Oracle("m"), CONFIG.model_copy(update={"seed": 1}))


def test_settings_under_which_nothing_was_scored_bind_nobody(tmp_path):
    claim(tmp_path, {"prompts": ["point1"]})
    ScoresFile(tmp_path).close()
    claim(tmp_path, {"prompts": ["box"]})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"prompts": ["box"]}


def test_of_several_definitions_the_one_that_differs_is_named(tmp_path):
    claim(tmp_path, {"descriptors": {"a": "0" * 64, "b": "1" * 64, "c": "2" * 64}})
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"\(descriptors.c: 2+ there, 3+ now\);"):
        claim(tmp_path, {"descriptors": {"a": "0" * 64, "b": "1" * 64, "c": "3" * 64}})


def test_a_foreign_scores_file_is_refused(tmp_path):
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"settings\.json"):
        claim(tmp_path, {})
    with pytest.raises(InputError, match="another --out"):
        ScoresFile(tmp_path)


def test_the_unit_and_tolerance_follow_the_spacing():
    config = EvalConfig(prompts=("box",), tolerance_mm=3.0, tolerance_px=1.5)
    rows = {}
    for spacing in (None, (0.5, 2.0)):
        case = disc_case(0, spacing=spacing)
        seconds, answers = ask(Oracle(wrong=20), case, case_prompts(case, ["box"], 0))
        with score_threads(1) as threads:
            (rows[spacing],) = score_answers(case, answers, config, "m", seconds, threads)
    assert (rows[None].unit, rows[None].tolerance) == ("px", 1.5)
    assert (rows[0.5, 2.0].unit, rows[0.5, 2.0].tolerance) == ("mm", 3.0)
    assert rows[None].hd95 != rows[0.5, 2.0].hd95


def test_the_gallery_keeps_best_worst_and_a_bounded_sample(tmp_path):
    gallery = overlays.Gallery(tmp_path, sample=4)
    offers = []
    for number in range(12):
        case = disc_case(number)
        _, answers = ask(Oracle(wrong=number), case, case_prompts(case, ["box"], 0))
        offers.append((case, [(answers[0], "m", 1 - number / 20)]))
        gallery.offer(*offers[-1])
    pictures = sorted(tmp_path.rglob("*.png"))
    for offer in offers:  # as the last case of a run that goes on is offered again
        gallery.offer(*offer)
        assert sorted(tmp_path.rglob("*.png")) == pictures
    assert 4 <= len(pictures) <= 6
    assert pictures[0].name == "0.450__p11.png"
    assert pictures[-1].name == "1.000__p0.png"
    chosen = overlays.choose(pictures[0].parent, median=0.725)
    assert list(chosen) == ["best", "median", "worst"]
    between = [float(path.name[:5]) for path in pictures[1:-1]]
    assert float(chosen["median"].name[:5]) == min(between, key=lambda dsc: abs(dsc - 0.725))
    near_best = overlays.choose(pictures[0].parent, median=0.99)
    assert near_best["median"] == pictures[-2]
    assert Image.open(chosen["median"]).size[1] > overlays.PANEL


def test_an_overlay_shows_reference_and_mask_in_their_colours():
    case = disc_case(0)
    _, answers = ask(Oracle(wrong=25), case, case_prompts(case, ["box_point"], 0))
    sheet = np.asarray(overlays.panels(case, {"m": (answers[0], 0.5)}))
    first, second = sheet[:, : overlays.PANEL], sheet[:, -overlays.PANEL :]

    def holds(panel, colour):
        rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        return (panel == rgb).all(-1).sum() > 20

    assert holds(first, overlays.REFERENCE)
    assert holds(first, overlays.BOX)
    assert holds(first, overlays.POSITIVE)
    assert not holds(first, overlays.PREDICTED)
    assert holds(second, overlays.PREDICTED)


def test_unreadable_files_fail_and_the_rest_goes_on(discs):
    root, _, _ = discs
    (root / "discs" / "images" / "p2.png").write_bytes(b"\x89PNG cut short")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "discs" / "masks" / "p3.png")
    failures = go(discs, Oracle("m"))
    assert sorted(item.case for item in failures) == ["p2", "p3"]
    assert all(item.reason and item.file for item in failures)
    assert sorted(read_scores(discs[2])["case"].unique()) == ["p0", "p1"]


def test_nothing_to_score_is_an_input_error_that_names_the_first_reason(tmp_path):
    root, descriptor = disc_folder(tmp_path, count=2)
    for path in (root / "discs" / "images").glob("p?.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"failures\.csv \(2\), the first: .*p0\.png"):
        evaluate(["ellipse"], [str(descriptor)], root, EvalConfig(), tmp_path / "out")


def test_no_setting_for_the_only_method_is_said(tmp_path):
    root, descriptor = disc_folder(tmp_path, count=1)
    with pytest.raises(InputError, match="point1"):
        evaluate(["ellipse"], [str(descriptor)], root, EvalConfig(prompts=("point1",)), tmp_path / "out")


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(InputError, match="two methods"):
        build_methods(["ellipse", "ellipse=grabcut"], Options())


def test_a_missing_package_costs_its_own_method(monkeypatch, caplog):
    def build(spec, **_):
        if spec == "grabcut":
            raise Unavailable("needs OpenCV")
        return Oracle(spec)

    monkeypatch.setattr(registry, "build", build)
    built = build_methods(["ellipse", "grabcut"], Options())
    assert [method.name for method in built] == ["ellipse"]
    assert "needs OpenCV" in caplog.text


def test_settings_json_is_readable(discs):
    go(discs, Oracle("m"))
    assert json.loads((discs[2] / "settings.json").read_text())["prompts"] == list(CONFIG.prompts)


def test_models_compute_in_what_was_asked_for(tmp_path, monkeypatch):
    """bf16 changes the numbers by little, and stands in the settings; auto becomes what the machine has."""
    root, descriptor = disc_folder(tmp_path, 2)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = {}
    for precision in ("32", "bf16", "auto"):
        config = EvalConfig(prompts=("box",), overlays=0, precision=precision)
        out = tmp_path / precision
        evaluate(["m=checkpoint:tiny"], [str(descriptor)], root, config, out)
        found[precision] = read_scores(out)["predicted_iou"].to_numpy()
        said = json.loads((out / "settings.json").read_text())["precision"]
        assert said == {"auto": "32"}.get(precision, precision)
    assert (found["bf16"] != found["32"]).any()
    np.testing.assert_allclose(found["bf16"], found["32"], atol=0.03)
    np.testing.assert_array_equal(found["auto"], found["32"])
