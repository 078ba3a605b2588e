"""A bucket as Google Cloud Storage's XML API has it, as far as obstore asks: no emulator speaks that.

After its reference ("XML API reference", "Request preconditions"): every write gives an object a generation
of its own, x-goog-if-generation-match writes in place of that one only, and of none where it is 0.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Object:
    data: bytes
    generation: int
    notes: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'  # equal bytes, equal tags


@contextmanager
def cloud_storage() -> Iterator[tuple[dict[str, Object], dict[str, str]]]:
    """(the objects of a bucket named "bucket", the environment in which obstore finds it)"""
    objects: dict[str, Object] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(objects))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    account = {"gcs_base_url": f"http://127.0.0.1:{server.server_address[1]}", "disable_oauth": True}
    account |= {"client_email": "", "private_key": "", "private_key_id": ""}
    try:
        yield objects, {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(objects: dict[str, Object]) -> type[BaseHTTPRequestHandler]:
    lock, generations = threading.Lock(), itertools.count(1_700_000_000_000_000)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        @property
        def name(self) -> str:
            bucket, _, name = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
            assert bucket == "bucket"
            return name

        def answer(self, status: int, body: bytes = b"", **headers: Any) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": len(body)} | headers).items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            wanted = self.headers.get("x-goog-if-generation-match")
            notes = {n.lower(): v for n, v in self.headers.items() if n.lower().startswith("x-goog-meta-")}
            with lock:
                there = objects.get(self.name)
                if wanted is not None and int(wanted) != (there.generation if there else 0):
                    self.answer(412)
                    return
                objects[self.name] = made = Object(data, next(generations), notes)
            self.answer(200, ETag=made.etag, x_goog_generation=made.generation)

        def do_DELETE(self) -> None:
            self.answer(404 if objects.pop(self.name, None) is None else 204)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if not self.name:
                self.list_objects()
                return
            there = objects.get(self.name)
            if there is None:
                self.answer(404)
                return
            if self.headers.get("If-Match", there.etag) != there.etag:
                self.answer(412)
                return
            headers: dict[str, Any] = {"ETag": there.etag, "x_goog_generation": there.generation}
            headers |= {"Last_Modified": formatdate(usegmt=True), **there.notes}
            data, status, size = there.data, 200, len(there.data)
            if match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                data, status = data[int(match[1]) : int(match[2]) + 1], 206
                headers["Content_Range"] = f"bytes {match[1]}-{int(match[1]) + len(data) - 1}/{size}"
            self.answer(status, data, **headers)

        def list_objects(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            prefix, delimiter = (asked.get(name, [""])[0] for name in ("prefix", "delimiter"))
            found, folders = "", set[str]()
            for name, each in sorted(objects.items()):
                if not name.startswith(prefix):
                    continue
                folder, inside, _ = name[len(prefix) :].partition(delimiter or "\0")
                if inside:
                    folders.add(prefix + folder + inside)
                    continue
                found += f"<Contents><Key>{escape(name)}</Key><Size>{len(each.data)}</Size>"
                found += f"<ETag>{escape(each.etag)}</ETag>"
                found += "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in sorted(folders):
                found += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            self.answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())

    return Handler
