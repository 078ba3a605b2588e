"""A small HTTP server with ranges, and with the faults that real ones have: what reads URLs is tested on it.

It serves the files below a folder, as they are at the time of a request, and keeps a list of what it was
asked and what it sent. A fault is asked for by name:

    with Server(folder) as server:
        server.fail("reset", times=2, path="a.tar")        # the next two requests for a.tar
        server.fail(503, skip=3)                            # the fourth request from now on
        server.on_request = lambda request: ...             # anything else, such as changing a file
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["reset", "stall", "truncate", "short", "whole"] | int
"""reset: half of the body, then the connection is reset. stall: half of the body, then nothing. truncate: the
connection is closed before the length that was announced. short: fewer bytes than asked for, and announced
so. whole: the range is ignored. A number: that status."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Request:
    """A request and what was answered: body bytes that were sent of it, none for HEAD."""

    number: int
    method: str
    path: str
    range: tuple[int, int] | None
    headers: dict[str, str] = field(repr=False)
    status: int = 0
    sent: int = 0


@dataclass
class _Planned:
    fault: Fault
    path: str | None
    method: str
    skip: int
    times: int


class Server:
    """Serves ``root`` at ``url`` until the end of ``with``.

    etag   "strong", "weak" (which no If-Match ever equals), or None, as many simple servers
    delay  seconds before every answer, as a distant server takes
    heads  False: HEAD is not allowed, as with URLs that are signed for GET
    tls    how it shows who it is: it speaks https
    """

    def __init__(
        self,
        root: Path,
        *,
        etag: Literal["strong", "weak"] | None = "strong",
        delay: float = 0,
        heads: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.root, self.etag, self.delay, self.heads = root, etag, delay, heads
        self.requests: list[Request] = []
        self.on_request: Callable[[Request], object] = lambda request: None
        self.most_at_once = 0
        self._faults: list[_Planned] = []
        self._tags: dict[tuple[int, int, int], str] = {}
        self.at_once = 0
        self._lock = threading.Lock()
        self.released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._scheme = "http" if tls is None else "https"
        if tls is not None:  # each connection's thread shakes hands, not the one that takes them
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def ranges(self) -> list[Request]:
        """The requests that were answered with data."""
        return [r for r in self.requests if r.method == "GET" and r.status in (200, 206)]

    @property
    def nbytes(self) -> int:
        """Bytes of all bodies sent."""
        return sum(r.sent for r in self.requests)

    def tag_of(self, file: BinaryIO) -> str:
        """The ETag of what is in a file now."""
        status = os.fstat(file.fileno())
        known = (status.st_ino, status.st_size, status.st_mtime_ns)
        if known not in self._tags:
            self._tags[known] = hashlib.sha256(os.pread(file.fileno(), status.st_size, 0)).hexdigest()[:16]
        tag = f'"{self._tags[known]}"'
        return f"W/{tag}" if self.etag == "weak" else tag

    def forget(self) -> None:
        """Begins to count anew."""
        self.requests.clear()
        self.most_at_once = 0

    def fail(
        self, fault: Fault, *, path: str | None = None, method: str = "GET", skip: int = 0, times: int = 1
    ) -> None:
        """The next ``times`` requests but ``skip`` for a path that ends in ``path`` meet ``fault``."""
        self._faults.append(_Planned(fault, path, method, skip, times))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _begin(self, method: str, path: str, headers: dict[str, str]) -> tuple[Request, Fault | None]:
        match = _RANGE.fullmatch(headers.get("range", ""))
        wanted = (int(match[1]), int(match[2] or 1 << 62) + 1) if match else None
        with self._lock:
            request = Request(len(self.requests), method, path, wanted, headers)
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            fault = self._fault(request)
        self.on_request(request)
        return request, fault

    def _fault(self, request: Request) -> Fault | None:
        for planned in self._faults:
            if (
                planned.method == request.method
                and request.path.endswith(planned.path or "")
                and planned.times
            ):
                if planned.skip:
                    planned.skip -= 1
                    continue
                planned.times -= 1
                return planned.fault
        return None

    def _end(self) -> None:
        with self._lock:
            self.at_once -= 1


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(ssl.SSLError):  # who does not believe the certificate goes away
                super().handle()

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request, fault = server._begin(self.command, unquote(urlsplit(self.path).path), headers)
            try:
                if server.delay:
                    server.released.wait(server.delay)
                self._answer(request, fault)
            except (ConnectionError, TimeoutError, ssl.SSLError):
                self.close_connection = True
            finally:
                server._end()

        def _answer(self, request: Request, fault: Fault | None) -> None:
            path = server.root / request.path.lstrip("/")
            if isinstance(fault, int):
                self._refuse(request, fault)
            elif request.method == "HEAD" and not server.heads:
                self._refuse(request, 403)
            elif not path.is_file():
                self._refuse(request, 404)
            else:
                with path.open("rb") as file:
                    self._send(request, file, server.tag_of(file), fault)

        def _refuse(self, request: Request, status: int) -> None:
            request.status = status
            body = b"" if request.method == "HEAD" else b"no"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send(self, request: Request, file: BinaryIO, tag: str, fault: Fault | None) -> None:
            size = os.fstat(file.fileno()).st_size
            asked = request.headers.get("if-match")
            if asked is not None and (server.etag != "strong" or asked != tag):
                self._refuse(request, 412)
                return
            start, end = request.range if request.range and fault != "whole" else (0, size)
            if request.range and fault != "whole" and start >= size:
                self._refuse(request, 416)
                return
            end = min(end, size)
            if fault == "short":
                end -= (end - start) // 2
            body = os.pread(file.fileno(), end - start, start) if request.method != "HEAD" else b""
            request.status = 206 if request.range and fault != "whole" else 200
            self.send_response(request.status)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            if server.etag:
                self.send_header("ETag", tag)
            if request.status == 206:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            self._body(request, body, fault)

        def _body(self, request: Request, body: bytes, fault: Fault | None) -> None:
            sent = body[: len(body) // 2] if fault in ("reset", "stall", "truncate") else body
            request.sent = len(sent)  # before the other side can have it all
            self.wfile.write(sent)
            if fault == "stall":
                server.released.wait()
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            if len(sent) < len(body):
                self.close_connection = True

    return Handler
