"""SAM's own weights: downloaded, and checked."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import threading
from pathlib import Path

import pytest

from synthfm.data.console import Failed, InputError
from synthfm.trainer.model import download
from tests.support.runs import command


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of one file, which is the published one, and a second that is not."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "right.pth").write_bytes(b"weights" * 1000)
    (served / "wrong.pth").write_bytes(b"something else")
    digest = hashlib.sha256(b"weights" * 1000).hexdigest()
    published = {
        "vit_b": download.Published("right.pth", digest),
        "vit_l": download.Published("wrong.pth", digest),
    }
    monkeypatch.setattr(download, "PUBLISHED", published)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()
        thread.join()


def test_weights_are_downloaded_and_checked(server, tmp_path):
    out = tmp_path / "out"
    result = command("weights", "--model", "vit_b", "--out", out, "--base-url", server)
    assert result.exit_code == 0, result.output
    assert (out / "right.pth").read_bytes() == b"weights" * 1000
    with pytest.raises(Failed, match="SHA-256"):
        download.download("vit_l", out, server)
    assert [path.name for path in out.iterdir()] == ["right.pth"]
    (out / "right.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match="not the published file"):
        download.download("vit_b", out, server)
    assert (out / "right.pth").read_bytes() == b"mine"


def test_server_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no address"):
        download.download("vit_b", tmp_path / "out", "foo")
    for wrong in ("http://a b/", "http://localhost:abc", "http://[::1"):
        with pytest.raises(InputError, match="no address"):
            download.download("vit_b", tmp_path / "out", wrong)
    with pytest.raises(Failed, match="cannot be downloaded"):
        download.download("vit_b", tmp_path / "out", "http://127.0.0.1:9/")
    assert not list((tmp_path / "out").iterdir())


def test_published_hashes_are_those_of_the_docs():
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(vit_.)` \| `(sam_\w+\.pth)`.* \| `([0-9a-f]{64})` \|$", text, re.M)
    assert {model: download.Published(file, sha256) for model, file, sha256 in rows} == download.PUBLISHED
