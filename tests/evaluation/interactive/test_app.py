"""The page to try methods by hand: its server and its command."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from urllib.request import urlopen

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.draw import polygon2mask
from werkzeug.serving import make_server

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cli import main
from synthfm.evaluation.interactive.listening import Handler, names_of
from synthfm.evaluation.interactive.page.asking import Asked, Asker
from synthfm.evaluation.interactive.page.loading import Wanted, load
from synthfm.evaluation.interactive.page.pictures import Place, samples
from synthfm.evaluation.interactive.page.routes import make_app, outline
from synthfm.evaluation.methods.method import Predicted
from synthfm.evaluation.scoring.ask import ask, case_prompts
from tests.support.cases import disc_case, random_tiny
from tests.support.files import blocks, cut_short, picture_of, write_dicom_series, write_itk, write_picture


def made(value):
    """A future that is there."""
    future = Future()
    future.set_result(value)
    return future


@pytest.fixture
def client(library, methods, sent):
    return make_app(made(library), made(Asker(methods)), sent).test_client()


def post(client, path, code=200, **body):
    reply = client.post(path, json=body)
    assert reply.status_code == code, reply.get_data(as_text=True)
    return reply.get_json()


def keep(client, *paths, **form):
    files = [(io.BytesIO(path.read_bytes()), path.name) for path in paths]
    reply = client.post("/api/files", data={"files": files, **form})
    assert reply.status_code == 200, reply.get_data(as_text=True)
    return reply.get_json()["upload"]


def send(client, *paths, code=200):
    reply = post(client, "/api/open", code, upload=keep(client, *paths))
    return reply["opened"][0] if code == 200 else reply


def pixels(client, **body):
    reply = client.post("/api/mask.png", json=body)
    assert reply.status_code == 200, reply.get_data(as_text=True)
    return np.asarray(Image.open(io.BytesIO(reply.data))) > 127


def shown(reply):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["png"].partition(",")[2]))))


def test_sets_and_their_cases_are_listed_and_shown(client, library):
    start = client.get("/api/start").get_json()
    assert [item["name"] for item in start["datasets"]] == ["discs"]
    assert start["first"] == "case/discs/0"
    named = client.get("/api/methods").get_json()["methods"]
    assert [item["name"] for item in named] == ["rand", "rand-zoom", "ellipse", "grabcut", "chan_vese"]
    found = client.get("/api/datasets/discs").get_json()
    assert found["problems"] == []
    cases = library.datasets["discs"].cases
    assert [item["title"] for item in found["cases"]] == [case.case for case in cases]
    assert len(cases) == 3
    reply = post(client, "/api/show", image=found["cases"][1]["image"])
    np.testing.assert_array_equal(shown(reply), cases[1].image)
    assert [item["structure"] for item in reply["references"]] == ["disc"]


@pytest.mark.parametrize("name", ["rand", "rand-zoom"])
def test_clicks_are_answered_as_the_evaluation_has_them_answered(client, library, methods, name):
    case = library.datasets["discs"].cases[0]
    method = next(item for item in methods if item.name == name)
    _, answers = ask(method, case, case_prompts(case, ["clicks:4", "box"], seed=3))
    for answer in answers:
        prompt = answer.prompt
        clicks = [[int(x), int(y), int(k)] for (x, y), k in zip(prompt.points, prompt.labels, strict=True)]
        box = None if prompt.box is None else prompt.box.tolist()
        body = {"image": "case/discs/0", "method": name, "clicks": clicks, "box": box}
        np.testing.assert_array_equal(pixels(client, **body), answer.predicted.mask)
        reply = post(client, "/api/ask", **body)
        assert reply["iou"] == pytest.approx(answer.predicted.iou, abs=1e-5)
        assert reply["pixels"] == answer.predicted.mask.sum()
    assert len(answers) == 5


def test_an_image_is_encoded_once_and_rounds_are_kept(library):
    case = disc_case()

    class Counting:
        name = "counting"
        encoded = predicted = 0

        def accepts(self, setting):
            return True

        def encode(self, image):
            self.encoded += 1
            return image

        def predict(self, encoded, prompts, previous=()):
            from synthfm.evaluation.methods.method import Predicted

            self.predicted += len(prompts)
            return [Predicted(encoded > 0, state=len(prompt.points)) for prompt in prompts]

    method = Counting()
    asker = Asker([method])
    points, labels, box = [(5, 5), (6, 5), (7, 5)], [1, 0, 1], (1, 1, 9, 9)
    for count in (1, 2, 3, 2):  # the last is an undo
        asker.ask("counting", "a", case.image, Asked(Prompt(points[:count], labels[:count])))
    assert (method.encoded, method.predicted) == (1, 3)
    everything, other = Asked(Prompt(points, labels, box)), Asked(Prompt(points[1:2], labels[1:2]))
    asker.ask("counting", "b", case.image, everything)  # another image: all rounds anew
    assert (method.encoded, method.predicted) == (2, 7)
    asker.ask("counting", "b", case.image, other)  # another prompt: the rounds of that before go
    asker.ask("counting", "b", case.image, everything)
    assert (method.encoded, method.predicted) == (2, 12)


@pytest.mark.parametrize("name", ["rand", "rand-zoom"])
def test_the_masks_of_one_click_are_offered_and_corrections_go_on_from_the_one_chosen(client, name):
    click = {"image": "case/discs/0", "method": name, "clicks": [[20, 22, 1]]}
    offered = post(client, "/api/choices", **click)["choices"]
    assert len(offered) > 1
    assert [item["pixels"] for item in offered] == sorted(item["pixels"] for item in offered)
    answer = post(client, "/api/ask", **click)
    assert answer["outline"] in [item["outline"] for item in offered]
    two = {**click, "clicks": [[20, 22, 1], [40, 30, 0]]}
    corrected = []
    for item in offered:
        assert post(client, "/api/ask", **click, choice=item["choice"])["outline"] == item["outline"]
        corrected.append(post(client, "/api/ask", **two, choice=item["choice"])["outline"])
    assert post(client, "/api/ask", **two)["outline"] == corrected[offered.index(
        next(item for item in offered if item["outline"] == answer["outline"]))]  # fmt: skip
    assert any(other != corrected[0] for other in corrected)


def test_masks_are_offered_for_one_click_alone(client):
    body = {"image": "case/discs/0", "method": "rand"}
    for prompt in ({"clicks": [[9, 9, 0]]}, {"clicks": [[9, 9, 1], [5, 5, 1]]}, {"box": [1, 1, 9, 9]}):
        assert post(client, "/api/choices", **body, **prompt) == {"choices": []}
    assert post(client, "/api/choices", **{**body, "method": "grabcut"}, clicks=[[9, 9, 1]]) == {
        "choices": []
    }
    # A method that has one mask alone is asked as if none had been chosen.
    body["method"] = "grabcut"
    assert post(client, "/api/ask", **body, clicks=[[9, 9, 1]], choice=2)["pixels"] >= 0


def test_dice_is_that_of_the_reference_met_best(client, library):
    case = library.datasets["discs"].cases[0]
    (item,) = case.objects
    rows, columns = np.nonzero(item.mask)
    box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
    body = {"image": "case/discs/0", "method": "ellipse", "box": box}
    mask = pixels(client, **body)
    reply = post(client, "/api/ask", **body)
    assert reply["structure"] == "disc"
    assert reply["dsc"] == pytest.approx(2 * (mask & item.mask).sum() / (mask.sum() + item.mask.sum()))


@given(arrays(bool, (9, 11)))
def test_outlines_hold_the_mask(mask):
    drawn = np.zeros(mask.shape, int)
    for line in outline(mask):
        # A polygon over pixel centres; one inside another is a hole, as the canvas's even-odd rule fills it.
        drawn += polygon2mask(mask.shape, np.array(line).reshape(-1, 2)[:, ::-1] - 0.5)
    np.testing.assert_array_equal(drawn % 2 == 1, mask)


def test_an_own_image_is_shown_in_the_window_that_is_asked_for(client, tmp_path):
    label = blocks((3, 30, 40), [1, 2])
    image = picture_of(label, np.random.default_rng(0))[1:2]
    opened = send(client, write_itk(tmp_path / "my scan.nii.gz", image, (0.5, 2.0, 3.0)))
    assert (opened["title"], opened["slices"], opened["frames"]) == ("my scan.nii.gz", 1, 1)
    first = post(client, "/api/show", image=opened["image"])
    assert (first["width"], first["height"], first["frames"], first["ct"]) == (40, 30, 1, False)
    low, high = float(image.min()), float(image.max())
    assert low < first["levels"][0] < first["levels"][1] < high
    wide = post(client, "/api/show", image=opened["image"], levels=[low, high])
    expected = np.rint((image[0].astype(float) - low) / (high - low) * 255)
    np.testing.assert_allclose(shown(wide), expected, atol=1)
    assert wide["spacing"] == [2, 0.5]
    reply = post(client, "/api/ask", image=opened["image"], method="ellipse", box=[2, 2, 11, 11])
    assert reply["dsc"] is None
    assert reply["mm2"] == pytest.approx(reply["pixels"])


def test_a_volume_is_no_single_image(client, tmp_path):
    volume = picture_of(blocks((5, 30, 40), [1]), np.random.default_rng(0))
    opened = send(client, write_itk(tmp_path / "scan.nii.gz", volume))
    assert opened["slices"] == 5
    error = post(client, "/api/show", 400, image=opened["image"])["error"]
    assert error == "scan.nii.gz: a volume of 5 slices, and no single image"


def test_a_volume_of_one_coronal_slice_is_shown_and_one_without_values_named(client, tmp_path):
    image = np.random.default_rng(0).integers(0, 200, (40, 1, 50)).astype(np.int16)
    opened = send(client, write_itk(tmp_path / "coronal.nii.gz", image))
    first = post(client, "/api/show", image=opened["image"])
    assert (opened["slices"], first["width"], first["height"]) == (1, 50, 40)
    np.save(tmp_path / "nothing.npy", np.full((30, 40), np.nan))
    assert "nothing but NaN" in str(send(client, tmp_path / "nothing.npy", code=400))


def test_hounsfield_units_open_in_the_window_of_soft_tissue(client, tmp_path):
    values = np.linspace(-1000, 900, 20 * 30).reshape(1, 20, 30).astype(np.int16)
    opened = send(client, write_itk(tmp_path / "ct.mha", values))
    reply = post(client, "/api/show", image=opened["image"])
    assert (reply["levels"], reply["ct"]) == ([-160, 240], True)


def test_files_that_belong_together_are_sent_together(client, tmp_path):
    volume = picture_of(blocks((4, 24, 32), [1]), np.random.default_rng(1))
    series = write_dicom_series(tmp_path / "series", volume)
    assert send(client, *series)["title"] == "i0000,0000b.dcm and 3 more"
    upload = keep(client, *series[:2])
    assert keep(client, *series[2:], upload=upload) == upload
    (opened,) = post(client, "/api/open", upload=upload)["opened"]
    assert opened["slices"] == 4
    assert sorted(post(client, "/api/scans", image=opened["image"])["shape"]) == [4, 24, 32]
    assert "has been opened" in post(client, "/api/open", 400, upload=upload)["error"]
    assert (
        "open all of them again"
        in client.post(
            "/api/files", data={"files": [(io.BytesIO(b"x"), "a.png")], "upload": ".."}
        ).get_json()["error"]
    )
    head = write_itk(tmp_path / "pair.mhd", volume)
    voxels = next(path for path in tmp_path.glob("pair.*") if path != head)
    other = write_picture(tmp_path / "other.png", volume[0].astype(np.uint8))
    opened = post(client, "/api/open", upload=keep(client, voxels, head, other))["opened"]
    assert [item["title"] for item in opened] == ["pair.mhd", "other.png"]
    assert [item["slices"] for item in opened] == [4, 1]


def test_frames_of_a_cine_are_told_apart(client, tmp_path):
    cine = np.random.default_rng(2).integers(0, 200, (3, 1, 20, 24)).astype(np.int16)
    opened = send(client, write_itk(tmp_path / "cine.nii.gz", cine))
    levels = [0, 255]
    for frame in (2, 0):
        reply = post(client, "/api/show", image=opened["image"], frame=frame, levels=levels)
        assert reply["frames"] == 3
        np.testing.assert_array_equal(shown(reply), cine[frame, 0])
    assert "frame 3 does not exist" in post(client, "/api/show", 400, image=opened["image"], frame=3)["error"]


def test_files_opened_before_can_be_shown_again(client, tmp_path):
    image = picture_of(blocks((4, 24, 32), [1]), np.random.default_rng(3))[2:3]
    scan = send(client, write_itk(tmp_path / "scan.nii.gz", image))["image"]
    before = post(client, "/api/show", image=scan)
    for k in range(4):  # more than are kept as they were read
        other = send(client, write_picture(tmp_path / f"other{k}.png", image[0].astype(np.uint8)))["image"]
        assert post(client, "/api/show", image=other)["width"] == 32
    assert post(client, "/api/show", image=scan) == before
    start = client.get("/api/start").get_json()
    assert [item["title"] for item in start["files"]] == ["scan.nii.gz", *(f"other{k}.png" for k in range(4))]


def test_a_file_that_cannot_be_read_is_named_and_not_kept(client, tmp_path, sent):
    (tmp_path / "notes.txt").write_text("no image")
    assert "notes.txt: unknown kind of file" in send(client, tmp_path / "notes.txt", code=400)["error"]
    scan = write_itk(tmp_path / "scan.nii.gz", np.arange(4 * 9 * 9, dtype=np.int16).reshape(4, 9, 9))
    assert send(client, cut_short(scan), code=400)["error"].startswith("scan.nii.gz: ")
    assert "no file" in client.post("/api/files", data={}).get_json()["error"]
    damaged = write_dicom_series(tmp_path / "series", np.zeros((3, 8, 8), np.int16))
    damaged[1].write_bytes(damaged[1].read_bytes()[:-40])
    error = send(client, *damaged, code=400)["error"]
    assert error.startswith("i0000,0000b.dcm and 2 more: i0001,0000b.dcm")
    assert str(sent) not in error
    error = send(client, tmp_path / "notes.txt", cut_short(scan), code=400)["error"]
    assert error.startswith("notes.txt: unknown kind of file")
    assert error.endswith("(and 1 more that cannot be read)")
    assert not list(sent.iterdir())


def test_files_of_one_name_are_all_kept(client, tmp_path):
    first, second = np.zeros((8, 8), np.uint8), np.full((8, 9), 9, np.uint8)
    paths = [write_picture(tmp_path / f"{k}" / "a.png", array) for k, array in enumerate((first, second))]
    opened = post(client, "/api/open", upload=keep(client, *paths))["opened"]
    assert [post(client, "/api/show", image=item["image"])["width"] for item in opened] == [8, 9]


def test_more_than_a_request_may_hold_is_told(client):
    files = [(io.BytesIO(b"x"), f"{k}.dcm") for k in range(1001)]
    reply = client.post("/api/files", data={"files": files})
    assert reply.status_code == 413
    assert "at most 1000 files" in reply.get_json()["error"]


def test_a_name_cannot_lead_out_of_the_folder(client, tmp_path, sent):
    client.post("/api/files", data={"files": [(io.BytesIO(b"x"), "../../outside.png")]})
    assert all(sent in path.parents for path in tmp_path.rglob("outside.png"))
    for name in ("..", "folder/.."):
        reply = client.post("/api/files", data={"files": [(io.BytesIO(b"x"), name)]})
        assert (reply.status_code, reply.get_json()["error"]) == (400, f"'{name}' is no name of a file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clicks": [[500, 3, 1]]}, "not all in the image"),
        ({"clicks": [[-1, 3, 1]]}, "not all in the image"),
        ({"clicks": [[3, 3, 2]]}, "clicks.0.2"),
        ({"box": [9, 9, 4, 20]}, "holds nothing of the image"),
        ({"box": [float("nan"), 0, 4, 4]}, "box.0"),
        ({}, "no prompt"),
        ({"method": "nobody", "clicks": [[3, 3, 1]]}, "no method 'nobody'"),
        ({"method": "ellipse", "clicks": [[3, 3, 1]]}, "needs a box"),
        ({"method": "chan_vese", "clicks": [[3, 3, 1], [9, 9, 0]]}, "takes no such prompt"),
        ({"clicks": [[3, 3, 1]], "choice": 3}, "choice 3 does not exist; there are 3"),
        ({"box": [1, 1, 9, 9], "choice": 0}, "chosen for one click"),
        ({"image": "case/discs/99", "clicks": [[3, 3, 1]]}, "no such image"),
        ({"image": "case/../1", "clicks": [[3, 3, 1]]}, "no such image"),
        ({"levels": [5, 5], "clicks": [[3, 3, 1]]}, "black must be below"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_question_is_answered_in_one_line(client, change, message):
    body = {"image": "case/discs/0", "method": "rand", **change}
    error = post(client, "/api/ask", 400, **body)["error"]
    assert message in error
    assert "\n" not in error


def test_other_sites_are_turned_away(client):
    assert client.get("/", headers={"Host": "evil.example:8000"}).status_code == 403
    body = {"image": "case/discs/0"}
    assert client.post("/api/show", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/show", json=body, headers={"Origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "asked", "code"),
    [
        ("fd00:0::1", "[fd00::1]:8000", 200),
        ("MyBox", "mybox:8000", 200),
        ("mybox", "MyBox", 200),
        ("192.168.1.5", "192.168.1.5:8000", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("fd00::1", "[fd00::2]:8000", 403),
        ("0.0.0.0", "10.1.2.3:8000", 200),
        ("::", "[fd00::9]:8000", 200),
        ("0.0.0.0", "localhost:8000", 200),
        ("0.0.0.0", f"{socket.gethostname()}:8000", 200),
        ("0.0.0.0", "evil.example:8000", 403),  # whose name may lead here
    ],
)
def test_it_is_asked_for_by_its_own_name(library, methods, sent, host, asked, code):
    client = make_app(made(library), made(Asker(methods)), sent, names_of(host)).test_client()
    assert client.get("/api/start", headers={"Host": asked}).status_code == code


def test_the_samples_are_read_whole():
    found = samples()
    assert [len(found.cases), len(found.failures)] == [12, 0]
    for case in found.cases:
        assert len(case.objects) > 1
        assert all(item.mask.any() for item in case.objects)


def test_who_looks_twice_answers_and_everyone_has_a_title(tmp_path):
    weights = random_tiny(tmp_path / "mine.pth")
    library, asker = Future(), Future()
    load(Wanted(["ellipse", f"checkpoint:{weights}", f"zoom:{weights}", "region_growing"]), library, asker)
    assert list(asker.result().titles.items()) == [
        ("mine-zoom", "mine, second look"),
        ("ellipse", "ellipse"),
        ("mine", "mine"),
        ("region_growing", "region growing"),
    ]
    # The first image is known to the one who answers: a click on it costs no encoding.
    case = samples().cases[0]
    picture = library.result().show(library.result().first(), Place())
    np.testing.assert_array_equal(picture.image, case.image)
    answer = asker.result().ask(
        "mine-zoom", ("case/samples/0", picture.place), picture.image, Asked(Prompt([(9, 9)], [1]))
    )
    assert answer.encode_seconds == 0


def test_a_request_waits_for_what_is_being_loaded_and_hears_why_it_failed(library, sent):
    asker = Future()
    client = make_app(made(library), asker, sent).test_client()
    assert post(client, "/api/show", image="case/discs/0")["width"] == 72  # needs no method
    threading.Timer(0.1, lambda: asker.set_exception(InputError("no such checkpoint"))).start()
    body = {"image": "case/discs/0", "method": "rand", "clicks": [[3, 3, 1]]}
    assert post(client, "/api/ask", 400, **body) == {"error": "no such checkpoint"}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_command_serves_until_it_is_ended(tmp_path, name):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} here")
    scan = write_itk(tmp_path / "scan.nii.gz", picture_of(blocks((3, 30, 40), [1]), np.random.default_rng(4)))
    command = [
        sys.executable,
        "-m",
        "synthfm.evaluation.cli",
        "app",
        str(scan),
        "--method",
        "ellipse",
        "--port",
        "0",
        "--no-browser",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(getattr(signal, name), signal.SIG_DFL),  # as nohup may have left it
    )
    try:
        address = process.stdout.readline().split()[0]
        with urlopen(address, timeout=60) as reply:
            assert b"SynthFM" in reply.read()
        assert list(tmp_path.glob("synthfm-app-*"))
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert not list(tmp_path.glob("synthfm-app-*"))


def test_a_port_that_is_taken_and_a_file_that_is_missing_are_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["app", "--method", "ellipse", "--port", str(port), "--no-browser"])
    assert done.exit_code == 2
    assert done.output == f"Error: --port {port}: in use; choose another, or 0 for any that is free\n"
    done = CliRunner().invoke(main, ["app", str(tmp_path / "no.png"), "--method", "ellipse", "--no-browser"])
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")  # before anything is served
    assert "no.png: no such file" in done.output


def test_what_cannot_be_loaded_ends_the_command(tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    arguments = ["app", str(tmp_path / "broken.png"), "--method", "ellipse", "--port", "0", "--no-browser"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith("Error: broken.png: ")


@pytest.mark.parametrize("name", ["a\0.png", "x" * 5000 + ".png", "ä" * 120 + ".png", "a\nb.png", "."])
def test_a_name_that_no_file_can_have_is_refused(client, name, sent):
    reply = client.post("/api/files", data={"files": [(io.BytesIO(b"x"), name)]})
    assert reply.status_code == 400, reply.get_data(as_text=True)
    assert not list(sent.iterdir())


@pytest.mark.parametrize("path", ["/api/ask", "/api/show", "/api/open", "/api/scans"])
def test_json_that_is_nested_without_end_or_no_json_is_refused(client, path):
    huge = '{"image": "a\\u0000", "clicks": [[1e400, 1, 1]]}'
    for text in ("[" * 100000, '{"image":' * 20000, "{", "1" * 5000, huge):
        reply = client.post(path, data=text, content_type="application/json")
        assert reply.status_code == 400, (text[:20], reply.get_data(as_text=True)[:200])
        assert "\n" not in reply.get_json()["error"]


def test_clicks_beyond_all_counts_are_refused(client):
    body = {"image": "case/discs/0", "method": "rand"}
    for clicks in ([[3, 3, 1]] * 201, [[10**30, 3, 1]], [[3, -(10**9), 1]]):
        assert "clicks" in post(client, "/api/ask", 400, **body, clicks=clicks)["error"]


def test_every_reply_forbids_other_sites_to_show_it(client):
    for path in ("/", "/api/start", "/static/main.js", "/nowhere"):
        reply = client.get(path)
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert "script-src 'self';" in reply.headers["Content-Security-Policy"]


class _Slow:
    """A method that takes its time for a round, and corrects what it said before."""

    def __init__(self, name, seconds=0.05):
        self.name, self.seconds, self.asked = name, seconds, 0

    def accepts(self, setting):
        return True

    def encode(self, image):
        return image.shape

    def predict(self, encoded, prompts, previous=()):
        self.asked += 1
        time.sleep(self.seconds)
        return [Predicted(np.ones(encoded, bool), state=0)]


def test_others_are_answered_between_two_rounds_of_a_long_prompt(library, sent):
    slow = _Slow("slow")
    app = make_app(made(library), made(Asker([slow, _Slow("quick", 0)])), sent)
    clicks = [[k % 50, k // 50, 1] for k in range(100)]
    done = []

    def ask(method, asked):
        body = {"image": "case/discs/0", "method": method, "clicks": asked}
        reply = app.test_client().post("/api/ask", json=body)
        done.append((method, reply.status_code))

    long = threading.Thread(target=ask, args=("slow", clicks))
    long.start()
    while not slow.asked:
        time.sleep(0.01)
    for _ in range(3):
        ask("quick", clicks[:1])
    assert done == [("quick", 200)] * 3
    long.join()
    assert done[-1] == ("slow", 200)


def test_a_prompt_that_takes_too_long_is_gone_on_with_when_it_is_asked_again(library, sent, monkeypatch):
    monkeypatch.setattr("synthfm.evaluation.interactive.page.routes.WITHIN", 0.2)
    slow = _Slow("slow")
    client = make_app(made(library), made(Asker([slow])), sent).test_client()
    body = {"image": "case/discs/0", "method": "slow", "clicks": [[k, 3, 1] for k in range(10)]}
    for _ in range(10):
        reply = client.post("/api/ask", json=body)
        if reply.status_code == 200:
            break
        assert "of 10 rounds so far; ask again" in reply.get_json()["error"]
    assert reply.status_code == 200
    assert slow.asked == 10


def test_uploads_of_one_name_at_once_are_all_kept(client, sent):
    upload = keep_bytes(client, b"first")
    threads = [
        threading.Thread(target=keep_bytes, args=(client.application.test_client(), b"%d" % k, upload))
        for k in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = sent / upload
    assert {path.read_bytes() for path in folder.iterdir()} == {b"first", *(b"%d" % k for k in range(20))}


def keep_bytes(client, content, upload=None):
    data = {"files": [(io.BytesIO(content), "a.png")], **({"upload": upload} if upload else {})}
    reply = client.post("/api/files", data=data)
    assert reply.status_code == 200, reply.get_data(as_text=True)
    return reply.get_json()["upload"]


@pytest.mark.parametrize("name", ["v.mhd", "v.nrrd"])
def test_a_header_shows_nothing_but_what_was_sent_with_it(client, tmp_path, name):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(100)) * 3)
    if name == "v.mhd":
        text = "ObjectType = Image\nNDims = 2\nDimSize = 10 10\nElementType = MET_UCHAR\nElementDataFile = "
    else:
        text = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 10 10\nencoding: raw\ndata file: "
    for other in (str(secret), "../" * 20 + str(secret).lstrip("/"), "/etc/passwd"):
        (tmp_path / name).write_text(f"{text}{other}\n")
        assert "outside of its folder" in send(client, tmp_path / name, code=400)["error"]
    (tmp_path / name).write_text(f"{text}secret.raw\n")
    assert send(client, tmp_path / name, secret)["title"] == name


def test_a_body_that_is_too_long_is_not_read(client):
    class Endless(io.RawIOBase):
        """What comes in chunks, and so without a word on its length."""

        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            assert self.given < 1 << 22
            buffer[:] = b" " * len(buffer)
            self.given += len(buffer)
            return len(buffer)

    more = {"content_type": "application/json"}
    reply = client.post("/api/ask", **more, environ_overrides={"CONTENT_LENGTH": str(4 << 30)})
    assert reply.status_code == 413
    chunks = {"wsgi.input": io.BufferedReader(Endless()), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    reply = client.post("/api/ask", **more, environ_overrides=chunks)
    assert reply.status_code in (400, 413)


@contextlib.contextmanager
def served(app):
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()


def test_work_ends_when_its_client_has_left(library, sent):
    slow = _Slow("slow", 0.1)
    with served(make_app(made(library), made(Asker([slow])), sent)) as (host, port):
        clicks = [[k % 50, k // 50, 1] for k in range(150)]
        body = json.dumps({"image": "case/discs/0", "method": "slow", "clicks": clicks})
        connection = socket.create_connection((host, port), timeout=20)
        head = f"POST /api/ask HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while not slow.asked:
            time.sleep(0.01)
        connection.close()
        before = -1
        while before != slow.asked:
            before = slow.asked
            time.sleep(0.5)
        assert slow.asked < 100
