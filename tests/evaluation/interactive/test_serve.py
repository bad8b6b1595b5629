"""nnInteractive's own client against the server, with the embedded model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import blosc2
import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from nnInteractive.inference.remote.serialization import pack_array
from werkzeug.serving import make_server

from synthfm.evaluation.cli import main
from synthfm.evaluation.interactive.finding import Model, open_model
from synthfm.evaluation.interactive.leases import Leases
from synthfm.evaluation.interactive.server import Desk, capabilities, make_app

SHAPE = (9, 64, 64)
SPACING = [4.0, 1.0, 1.0]
MIDDLE = (4, 34, 24)
OTHER = (4, 20, 52)


def ball(centre: tuple[int, ...], radius: float) -> np.ndarray:
    """Slices four pixels apart, bool (slices, H, W)."""
    z, y, x = np.indices(SHAPE)
    return ((z - centre[0]) * 4) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2


BALL = ball(MIDDLE, 13)
VALUES = (40 + 120 * (BALL | ball(OTHER, 8)) + np.random.default_rng(0).normal(0, 4, SHAPE)).astype(np.int16)
FULL = [[1, 8], [21, 48], [11, 38]]
"""Around the ball."""
IN_SLICE = [[4, 5], *FULL[1:]]


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.sum(first & second) / (first.sum() + second.sum()))


@contextmanager
def serving(
    most: int = 2, within: float = 40.0, key: str | None = None, model: Model | None = None, **leases: float
) -> Iterator[tuple]:
    """A server's address, and what it has said."""
    said: list[str] = []
    desk = Desk(model or open_model(), capabilities("tiny"), Leases(most, **leases), key, within, said.append)
    server = make_server("127.0.0.1", 0, make_app(desk), threaded=True)
    server.service_actions = desk.leases.sweep
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", said
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (address, _):
        yield address


class Client(nnInteractiveRemoteInferenceSession):
    """The official one, with an image and its buffer."""

    def open(self, values: np.ndarray = VALUES, spacing: list[float] | None = SPACING) -> Client:
        self.set_image(values[None], None if spacing is None else {"spacing": np.array(spacing)})
        self.set_target_buffer(np.zeros(values.shape, np.uint8))
        return self

    @property
    def mask(self) -> np.ndarray:
        return self.target_buffer > 0


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client.open()


def line(error: pytest.ExceptionInfo) -> str:
    """What a plug-in shows of a request that was refused."""
    status = error.value.response
    assert 400 <= status.status_code < 500
    assert status.json()["detail"] in str(error.value)
    return status.json()["detail"]


def test_clients_are_told_what_they_may_ask(client: Client) -> None:
    assert client.ping()
    assert client.supported_interactions == dict.fromkeys(
        ("points", "bbox2d", "bbox3d", "scribble", "lasso"), True
    )
    assert client.supports_undo
    assert client.supports_initial_label
    assert client.license == "Apache-2.0"
    assert len(client.preferred_scribble_thickness) == 3
    assert client.heartbeat() > 3000
    assert client.lease_status()["idle_timeout_seconds"] == 3600
    client.set_do_autozoom(True)  # plug-ins do without asking


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1, None])
def test_a_point_comes_back_on_the_object_in_every_order_of_axes(
    client: Client, axis: int, sign: int | None
) -> None:
    values, wanted = (np.moveaxis(array, 0, axis) for array in (VALUES, BALL))
    spacing = None if sign is None else (sign * np.insert([1.0, 1.0], axis, 4.0)).tolist()
    place = np.insert(MIDDLE[1:], axis, MIDDLE[0])
    client.open(values, spacing)
    bounds = client.add_point_interaction(place + 0.3, include_interaction=True)
    assert dice(client.mask, wanted) > 0.85
    assert client.mask[tuple(place)]
    used = np.nonzero(client.mask)
    assert bounds == [[int(u.min()), int(u.max()) + 1] for u in used]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "uint16", "int32"])
def test_images_of_any_numbers_are_taken_also_of_three_columns(client: Client, dtype: str) -> None:
    client.open(VALUES.clip(0, 255).astype(dtype))
    client.add_point_interaction(MIDDLE, True)
    assert dice(client.mask, BALL) > 0.85
    client.open(VALUES.clip(0, 255).astype(dtype)[..., 23:26], [4.0, 1.0, 1.0])
    client.add_bbox_interaction([[4, 5], [21, 48], [0, 3]], True)  # as a photograph in colours is
    assert client.mask.any()


def test_an_image_of_one_slice_is_answered_in_it(client: Client) -> None:
    client.open(VALUES[4:5], [1.0, 1.0, 1.0])
    client.add_point_interaction((0, 34, 24), True)
    assert dice(client.mask, BALL[4:5]) > 0.9


def test_a_negative_point_takes_away_what_it_is_on(client: Client) -> None:
    client.add_bbox_interaction([[4, 5], [10, 50], [10, 62]], True)
    client.add_point_interaction(MIDDLE, True)
    client.add_point_interaction(OTHER, False)
    assert not client.mask[OTHER]
    assert client.mask[MIDDLE]
    before = client.mask
    assert client.add_point_interaction((0, 2, 2), False) is None  # where nothing is, nothing changes
    np.testing.assert_array_equal(client.mask, before)


def test_a_negative_prompt_without_an_object_is_refused(client: Client) -> None:
    with pytest.raises(httpx.HTTPStatusError) as error:
        client.add_point_interaction(MIDDLE, False)
    assert "begin with a positive one" in line(error)
    assert not client.undo()


@pytest.mark.parametrize(
    ("box", "slices"),
    [
        (IN_SLICE, (1, 7)),
        (FULL, (1, 7)),
        ([[1, 8], [34, 35], [11, 38]], (1, 7)),  # drawn in another plane
        ([[3, 6], *FULL[1:]], (3, 5)),  # it ends there
        ([[3, 6], [34, 35], [11, 38]], (3, 5)),
        ([[4, 4.6], [20.7, 47.8], [11.2, 38]], (1, 7)),  # as napari's, between voxels
    ],
)
def test_a_box_gives_the_object_and_of_several_slices_its_ends(
    client: Client, box: list, slices: tuple[int, int]
) -> None:
    client.add_bbox_interaction(box, include_interaction=True)
    used = np.flatnonzero(client.mask.any((1, 2)))
    assert slices[0] <= used[0] < used[-1] <= slices[1]
    kept = np.s_[slices[0] : slices[1] + 1]
    assert dice(client.mask[kept], BALL[kept]) > 0.85


def test_a_prompt_beyond_a_boxs_ends_moves_them(client: Client) -> None:
    client.add_bbox_interaction([[4, 6], *FULL[1:]], True)
    assert not client.mask[3].any()
    client.add_point_interaction((2, 34, 24), True)
    assert client.mask[2:6, 34, 24].all()
    assert not client.mask[:2].any()


def test_a_negative_box_takes_away_what_it_holds(client: Client) -> None:
    client.add_bbox_interaction(IN_SLICE, True)
    client.add_bbox_interaction([[4, 5], [21, 34], [0, 64]], False)
    assert not client.mask[4, 21:34].any()
    assert client.mask[4, 36:42, 24].all()


def stroke(places: list[tuple[int, int, int]], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    drawn = np.zeros(shape, np.uint8)
    drawn[tuple(np.transpose(places))] = 1
    return drawn


def cropped(drawn: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """As the plug-ins send it."""
    bounds = [[int(used.min()), int(used.max()) + 1] for used in np.nonzero(drawn)]
    return drawn[tuple(np.s_[low:high] for low, high in bounds)], bounds


@pytest.mark.parametrize("axis", range(3))
def test_a_scribble_is_the_same_whole_or_cut_and_on_the_object(client: Client, axis: int) -> None:
    values, wanted, drawn = (
        np.moveaxis(array, 0, axis) for array in (VALUES, BALL, stroke([(4, 34, x) for x in range(16, 33)]))
    )
    client.open(values, np.insert([1.0, 1.0], axis, 4.0).tolist())
    client.add_scribble_interaction(np.ascontiguousarray(drawn), True)
    whole = client.mask
    assert dice(whole, wanted) > 0.85
    client.reset_interactions()
    part, bounds = cropped(drawn)
    client.add_scribble_interaction(part, True, interaction_bbox=bounds)
    np.testing.assert_array_equal(client.mask, whole)


def test_a_scribble_in_another_plane_prompts_the_slices_that_it_crosses(client: Client) -> None:
    client.add_scribble_interaction(stroke([(z, 34, x) for z in range(2, 7) for x in (23, 24)]), True)
    assert client.mask[2:7, 34, 24].all()
    assert dice(client.mask, BALL) > 0.8


def test_a_negative_scribble_takes_away(client: Client) -> None:
    client.add_bbox_interaction([[4, 5], [10, 50], [10, 62]], True)
    client.add_point_interaction(MIDDLE, True)
    client.add_scribble_interaction(stroke([(4, 20, x) for x in range(47, 58)]), False)
    assert client.mask[4, 20, 47:58].mean() < 0.2
    assert client.mask[MIDDLE]


def disc(radius: float, number: int = 4) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[number] = ball(MIDDLE, radius)[4]
    return drawn


def test_a_lasso_gives_the_object_that_it_sketches(client: Client) -> None:
    part, bounds = cropped(disc(15))
    client.add_lasso_interaction(part, True, interaction_bbox=bounds)
    assert dice(client.mask, BALL) > 0.85


def test_a_lasso_in_another_plane_says_where_the_object_ends(client: Client) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:6, 34] = ball(MIDDLE, 15)[2:6, 34]
    client.add_lasso_interaction(drawn, True)
    used = np.flatnonzero(client.mask.any((1, 2)))
    assert used.tolist() == [2, 3, 4, 5]
    assert dice(client.mask[2:6], BALL[2:6]) > 0.8


def test_a_negative_lasso_takes_away_what_it_holds(client: Client) -> None:
    client.add_bbox_interaction(IN_SLICE, True)
    client.add_lasso_interaction(disc(6), False)
    assert not client.mask[4][disc(6)[4] > 0].any()


def test_a_mask_to_begin_with_stays_but_where_a_prompt_is(client: Client) -> None:
    sketch = np.roll(BALL, 3, axis=2).astype(np.uint8)
    client.add_initial_seg_interaction(sketch)
    np.testing.assert_array_equal(client.mask, sketch)
    client.add_point_interaction((4, 34, 13), True)
    differs = np.flatnonzero((client.mask != sketch).any((1, 2)))
    assert differs.tolist() == [4]
    assert client.mask[4, 34, 13]
    assert client.undo()
    np.testing.assert_array_equal(client.mask, sketch)
    assert client.undo()
    assert not client.mask.any()


def test_a_mask_to_begin_with_is_refined(client: Client) -> None:
    sketch = np.roll(BALL, 4, axis=2)
    client.add_initial_seg_interaction(sketch.astype(np.uint8), run_prediction=True)
    assert dice(client.mask, BALL) > max(dice(sketch, BALL), 0.85)


def test_undo_goes_back_step_by_step_and_reset_to_the_beginning(client: Client) -> None:
    masks = [client.mask]
    for place in (MIDDLE, (4, 40, 24), (1, 2, 2)):
        client.add_point_interaction(place, include_interaction=place != (1, 2, 2))
        masks.append(client.mask)
    for mask in reversed(masks[:-1]):
        assert client.undo()
        np.testing.assert_array_equal(client.mask, mask)
    assert not client.undo()
    client.add_point_interaction(OTHER, True)
    client.reset_interactions()
    assert not client.mask.any()
    assert not client.undo()
    client.add_point_interaction(MIDDLE, True)
    assert not client.mask[OTHER]
    assert dice(client.mask, BALL) > 0.85


def test_without_auto_run_nothing_comes_until_it_is_asked_for(client: Client) -> None:
    assert client._predict() is None
    for place in (MIDDLE, (3, 34, 24)):
        assert client.add_point_interaction(place, True, run_prediction=False) is None
    assert not client.mask.any()
    assert client._predict() is not None
    assert dice(client.mask, BALL) > 0.85
    assert client.undo()
    assert client.undo()
    assert not client.mask.any()


def test_a_new_buffer_gets_the_whole_mask(client: Client) -> None:
    client.add_point_interaction(MIDDLE, True)
    client.set_target_buffer(np.zeros(SHAPE, np.int32))
    client.add_point_interaction((4, 36, 24), True)
    assert dice(client.mask, BALL) > 0.85


def test_clients_have_sessions_of_their_own_and_a_third_is_refused(address: str) -> None:
    with Client(address) as first, Client(address) as second:
        first.open()
        second.open(VALUES[::-1, ::-1, ::-1])
        first.add_point_interaction(MIDDLE, True)
        second.add_point_interaction((4, 29, 39), True)
        first.add_point_interaction((4, 36, 24), True)
        assert dice(first.mask, BALL) > 0.85
        assert dice(second.mask, BALL[::-1, ::-1, ::-1]) > 0.85
        with pytest.raises(ServerAtCapacityError, match="all 2 places are taken"):
            Client(address)
    with Client(address) as again:  # those who leave make room
        assert again.ping()


class Counted:
    """A segmenter, and how many slices it was asked for."""

    def __init__(self, segmenter: Any) -> None:
        self.segmenter, self.slices, self.several = segmenter, 0, threading.Event()

    def encode(self, image: np.ndarray) -> Any:
        return self.segmenter.encode(image)

    def predict(self, *asked: Any) -> Any:
        self.slices += 1
        if self.slices > 2:
            self.several.set()
        return self.segmenter.predict(*asked)


def test_a_click_does_not_wait_for_the_end_of_another_clients_propagation() -> None:
    model = open_model()
    nearby = Counted(model.nearby)
    with (
        serving(model=Model(model.whole, nearby)) as (address, _),
        Client(address) as first,
        Client(address) as second,
    ):
        long = 400
        first.open(np.repeat(VALUES[4:5], long, axis=0))
        second.open(VALUES[4:5])
        running = threading.Thread(target=first.add_point_interaction, args=((long // 2, *MIDDLE[1:]), True))
        running.start()
        assert nearby.several.wait(60)
        for place in ((0, *MIDDLE[1:]), (0, 36, 24)):
            second.add_point_interaction(place, True)
        assert dice(second.mask[0], BALL[4]) > 0.85
        assert nearby.slices < long - 1
        assert running.is_alive()
        running.join()
        assert dice(first.mask[long // 2], BALL[4]) > 0.85


@pytest.mark.parametrize("timeout", ["idle", "silent"])
def test_a_client_that_does_nothing_or_is_not_heard_of_loses_its_place(timeout: str) -> None:
    with serving(most=1, **{timeout: 0.3}) as (address, _), Client(address) as client:
        client.open()
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline
            try:
                Client(address).close()
                break
            except ServerAtCapacityError:
                time.sleep(0.05)
        with pytest.raises(SessionExpiredError, match="connect again"):
            client.add_point_interaction(MIDDLE, True)


def test_a_propagation_that_takes_too_long_is_answered_with_what_is_there() -> None:
    with serving(within=0.0) as (address, said), Client(address) as client:
        client.open()
        client.add_bbox_interaction(IN_SLICE, True)
        used = np.flatnonzero(client.mask.any((1, 2)))
        assert used.tolist() == [3, 4]  # the prompted slice, and one more
        assert said == [
            "answered after 0 s with what was found by then, slices 3 to 4; "
            "a prompt in a slice beyond goes on from there"
        ]
        client.add_point_interaction((2, 34, 24), True)
        assert np.flatnonzero(client.mask.any((1, 2)))[0] < 3


def test_an_api_key_is_asked_for_and_no_other_site_may_ask() -> None:
    with serving(key="secret") as (address, _):
        with Client(address, api_key="secret") as client:
            assert client.ping()
        for key in ("wrong", None):
            with pytest.raises(httpx.HTTPStatusError) as error:
                Client(address, api_key=key)
            assert "API key" in line(error)
        known = {"Authorization": "Bearer secret"}
        for strange in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert httpx.post(f"{address}/claim", headers=known | strange).status_code == 403
        assert httpx.get(f"{address}/healthz").json() == {"ok": True}


def packed(array: np.ndarray) -> bytes:
    return pack_array(array, filters=[blosc2.Filter.NOFILTER])


def claiming(shape: tuple[int, ...], kind: bytes = b"int16", payload: bytes = b"") -> bytes:
    """An array that is said to be of a shape."""
    head = struct.pack("<4sBBBB", b"NNIA", 1, 1, len(shape), len(kind)) + kind
    return head + struct.pack(f"<{len(shape)}q", *shape) + payload


DRAWN = {"include_interaction": True}
ONE = struct.pack("<I", 1)
BAD = {
    "an image of nothing": ("set_image", b"", {}),
    "garbage": ("set_image", bytes(range(256)) * 40, {}),
    "three axes": ("set_image", packed(VALUES), {}),
    "two channels": ("set_image", packed(np.stack([VALUES] * 2)), {}),
    "Python objects": ("set_image", claiming((1, 9, 9, 9), b"object"), {}),
    "a kind that is none": ("set_image", claiming((1, 9, 9, 9), b"(2,"), {}),
    "terabytes": ("set_image", claiming((1, 10**4, 10**4, 10**4)), {}),
    "an overflow": ("set_image", claiming((2**62, 2**62, 2**62, 2**62)), {}),
    "a negative side": ("set_image", claiming((1, 9, -9, -9)), {}),
    "no payload": ("set_image", claiming((1, 9, 9, 9)), {}),
    "chunks that are not there": ("set_image", claiming((1, 9, 9, 9), payload=b"\xff\xff\xff\xff"), {}),
    "an empty chunk": ("set_image", claiming((1, 9, 9, 9), payload=ONE + struct.pack("<QQ", 1458, 0)), {}),
    "a chunk of garbage": (
        "set_image", claiming((1, 9, 9, 9), payload=ONE + struct.pack("<QQ", 1458, 64) + b"x" * 64), {},
    ),
    "cut short": ("set_image", packed(VALUES[None])[:-100], {}),
    "not numbers": ("set_image", packed(np.full((1, *SHAPE), np.nan, np.float32)), {}),
    "a line": ("set_image", packed(np.zeros((1, 1, 1, 9), np.int16)), {}),
    "a spacing of two": ("set_image", packed(VALUES[None]), {"image_properties": {"spacing": [1, 1]}}),
    "a spacing of 0": ("set_image", packed(VALUES[None]), {"image_properties": {"spacing": [1, 0, 1]}}),
    "a header that is none": ("set_image", packed(VALUES[None]), "no JSON"),
    "a buffer of another shape": ("set_target_buffer", {"shape": [9, 64, 63], "dtype": "uint8"}, {}),
    "a point of two": ("add_point_interaction", {"coordinates": [1, 2], **DRAWN}, {}),
    "a point outside": ("add_point_interaction", {"coordinates": [9, 2, 2], **DRAWN}, {}),
    "a point nowhere": ("add_point_interaction", {"coordinates": [float("nan"), 2, 2], **DRAWN}, {}),
    "a point of words": ("add_point_interaction", {"coordinates": "here", **DRAWN}, {}),
    "no JSON": ("add_point_interaction", b"\xff\xfe", {}),
    "much JSON": ("add_point_interaction", b" " * (2 << 20), {}),
    "deep JSON": ("add_point_interaction", b"[" * 100_000, {}),
    "an empty box": ("add_bbox_interaction", {"bbox_coords": [[4, 4], [2, 9], [2, 9]], **DRAWN}, {}),
    "a box outside": ("add_bbox_interaction", {"bbox_coords": [[4, 5], [70, 90], [2, 9]], **DRAWN}, {}),
    "a scribble of nothing": ("add_scribble_interaction", packed(np.zeros(SHAPE, np.uint8)), DRAWN),
    "a scribble of another shape": ("add_scribble_interaction", packed(np.ones((3, 3, 3), np.uint8)), DRAWN),
    "a lasso of other bounds": (
        "add_lasso_interaction", packed(np.ones((1, 3, 3), np.uint8)),
        {**DRAWN, "interaction_bbox": [[4, 5], [2, 9], [2, 9]]},
    ),
    "a lasso outside": (
        "add_lasso_interaction", packed(np.ones((1, 3, 3), np.uint8)),
        {**DRAWN, "interaction_bbox": [[4, 5], [62, 65], [2, 5]]},
    ),
    "a mask of another shape": ("add_initial_seg_interaction", packed(np.ones((3, 3, 3), np.uint8)), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_refused_in_one_line_and_the_next_one_answered(
    client: Client, name: str
) -> None:
    path, body, meta = BAD[name]
    client.add_point_interaction(MIDDLE, True)
    before = client.mask
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    header = meta if isinstance(meta, str) else json.dumps(meta)
    reply = client._http.post(f"/{path}", content=content, headers={"X-Meta": header})
    detail = reply.json()["detail"]
    assert 400 <= reply.status_code < 500, detail
    assert detail
    assert "\n" not in detail
    assert client._predict() is None
    np.testing.assert_array_equal(client.mask, before)
    client.add_point_interaction((4, 36, 24), True)
    assert dice(client.mask, BALL) > 0.85


def test_an_array_that_unpacks_to_too_much_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHFM_MAX_GB", "0.001")
    image = packed(np.zeros((1, 9, 400, 400), np.int16))
    reply = client._http.post("/set_image", content=image, headers={"X-Meta": "{}"})
    assert reply.status_code == 400
    assert re.search("unpacks to 2.88 MB .* SYNTHFM_MAX_GB=", reply.json()["detail"])


def test_more_than_fits_is_refused_before_it_is_sent(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sent, Client(address) as client:
        lines = [f"POST /set_image HTTP/1.1\r\nHost: {host}:{port}", f"X-Lease-Token: {client._lease_token}"]
        sent.sendall("\r\n".join([*lines, "Content-Length: 10000000000000\r\n\r\n"]).encode())
        assert b" 413 more than 4 GiB in one request" in sent.recv(4096)


def test_prompts_before_an_image_and_without_a_place_are_refused(address: str) -> None:
    with Client(address) as client:
        with pytest.raises(httpx.HTTPStatusError) as error:
            client.add_point_interaction(MIDDLE, True)
        assert "no image yet" in line(error)
        client._http.headers["X-Lease-Token"] = "another"
        with pytest.raises(SessionExpiredError):
            client.heartbeat()


def started(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "synthfm.evaluation.cli", "serve", "--port", "0", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_command_serves_until_it_is_ended_also_while_it_answers(name: str) -> None:
    process = started()
    try:
        address = process.stdout.readline().split()[0]
        tall = np.concatenate([VALUES, *[VALUES[4:5]] * 400])
        client = Client(address).open(tall)

        def ask() -> None:
            with suppress(httpx.HTTPError):  # with what is there, or not at all
                client.add_point_interaction(MIDDLE, True)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=20)
        asking.join()
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_beyond_this_machine_a_key_is_made_up() -> None:
    process = started("--host", "0.0.0.0")
    try:
        key = process.stdout.readline().split()[-1]
        port = process.stdout.readline().split()[0].rpartition(":")[2]
        address = f"http://127.0.0.1:{port}"
        with pytest.raises(httpx.HTTPStatusError, match="API key"):
            Client(address)
        with Client(address, api_key=key) as client:
            assert client.ping()
    finally:
        process.kill()
        process.communicate()


def test_wrong_arguments_end_with_code_2_and_help_says_where_to_enter_the_address(monkeypatch) -> None:
    runner = CliRunner()
    text = runner.invoke(main, ["serve", "--help"]).output
    for word in ("3D Slicer", "napari", "1527", "127.0.0.1", "NN_INTERACTIVE_API_KEY"):
        assert word in text
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wrong = {
            ("--port", str(port)): f"--port {port}: in use",
            ("--port", "70000"): "70000",
            ("--max-sessions", "0"): "--max-sessions",
            ("--checkpoint", "no.pth", "--port", "0"): "no.pth",
            ("--host", "nowhere.invalid", "--port", "0"): "--host nowhere.invalid",
        }
        for words, expected in wrong.items():
            done = runner.invoke(main, ["serve", *words])
            assert done.exit_code == 2, words
            assert expected in done.output
            assert "Traceback" not in done.output
    monkeypatch.setitem(sys.modules, "nnInteractive", None)
    done = runner.invoke(main, ["serve"])
    assert done.exit_code == 2
    assert "pip install '.[serve]' in the clone" in done.output
