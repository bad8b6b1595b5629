"""Meta's SAM checkpoints: download, check the SHA-256, refuse a wrong file."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from synthfm.data.console import Failed, InputError, Progress
from synthfm.data.files import replacing, sha256

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


class Published(NamedTuple):
    """A published checkpoint: its file name and SHA-256."""

    file: str
    sha256: str


PUBLISHED = {
    "vit_b": Published(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "vit_l": Published(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "vit_h": Published(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
}


def download(model: str, out: Path, base_url: str = BASE_URL) -> Path:
    """Fetch a model's checkpoint into `out`; one that is there already is only checked.

    The file has its name only when it is whole and its hash is right. A download that was broken off starts
    anew.

    Raises
    ------
    InputError
        If the model is unknown, or a file of that name in `out` has another hash.
    Failed
        If the server cannot be reached or sends something else.
    """
    if model not in PUBLISHED:
        raise InputError(f"no published weights of {model!r}; choose one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[model]
    target = out / published.file
    if target.exists():
        if not target.is_file() or sha256(target) != published.sha256:
            raise InputError(f"{target}: not the published file (its SHA-256 differs); move it away first")
        return target
    out.mkdir(parents=True, exist_ok=True)
    url = base_url.rstrip("/") + "/" + published.file
    with replacing(target) as partial:
        _fetch(url, partial)
        found = sha256(partial)
        if found != published.sha256:
            raise Failed(f"{url}: SHA-256 is {found}, expected {published.sha256}; the file is not kept")
    return target


def _fetch(url: str, target: Path) -> None:
    if not url.startswith(("http://", "https://", "file://")):
        raise InputError(f"--base-url {url}: no address; write it with https:// before it")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, open(target, "wb") as handle:
            size = int(answer.headers.get("Content-Length") or 0)
            with Progress(total=size or None, unit="B", unit_scale=True) as bar:
                while block := answer.read(1 << 20):
                    handle.write(block)
                    bar.update(len(block))
    except urllib.error.URLError as error:
        raise Failed(f"{url}: cannot be downloaded ({error.reason})") from error
    except (http.client.InvalidURL, ValueError) as error:
        raise InputError(f"--base-url {url}: no address ({error})") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise Failed(f"{url}: the connection broke off ({error})") from error
