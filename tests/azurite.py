"""Azure's own emulator of its blob storage for tests: Azurite, where node's package is installed.

npm install --prefix DIR azurite && PATH=DIR/node_modules/.bin:$PATH pytest -m slow tests/shards/test_az.py
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.seaweed import free_ports

ACCOUNT = "devstoreaccount1"
# Everybody's: it is printed in Azurite's manual.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azurite(folder: Path) -> Iterator[dict[str, str]]:
    """Serves a container named "bucket"; yields the environment in which obstore finds it."""
    binary = shutil.which("azurite-blob")
    if binary is None:
        pytest.skip("there is no `azurite-blob`: npm install azurite")
    (port,) = free_ports(1)
    where = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command = [binary, "--silent", "--disableTelemetry", *where]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _make_container(process, f"http://127.0.0.1:{port}", folder / "log")
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_USE_EMULATOR": "true",
                "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
            }
        finally:
            process.kill()
            process.wait()


def _make_container(process: subprocess.Popen[bytes], server: str, log: Path) -> None:
    for _ in range(300):
        with suppress(URLError), urllib.request.urlopen(_request(server), timeout=10):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    pytest.fail(log.read_text()[-3000:])


def _request(server: str) -> urllib.request.Request:
    """To make the container: obstore makes none. Signed as "Authorize with Shared Key" has it."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{ACCOUNT}/{ACCOUNT}/bucket", "restype:container"]
    mac = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(mac.digest()).decode()}"
    headers |= {"Content-Type": "", "Content-Length": "0"}
    url = f"{server}/{ACCOUNT}/bucket?restype=container"
    return urllib.request.Request(url, method="PUT", data=b"", headers=headers)
