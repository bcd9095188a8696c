"""A web server on the loopback interface that has files, supports ranges, and misbehaves on demand."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered; the default is as it should be."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    ranges: bool = True
    etag: str = '"one"'
    length: int | None = None
    shift: int = 0


@dataclass(frozen=True)
class Asked:
    """A request that was received."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> str:
        return self.headers.get("Range", "")


class WebServer:
    """Has files by path; the next answers to GET may be planned."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.plan: list[Behaviour] = []
        self.behave: Callable[[Asked], Behaviour] | None = None
        self.asked: list[Asked] = []
        self.released = threading.Event()
        self.under_way = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    def gets(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET"]

    def behaviour(self, asked: Asked) -> Behaviour:
        with self.lock:
            self.asked.append(asked)
            if self.behave:
                return self.behave(asked)
            return self.plan.pop(0) if self.plan and asked.method == "GET" else Behaviour()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        with self.server.web.counted():
            self._answer(None)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, instead: bytes | None) -> None:
        web = self.server.web
        asked = Asked(self.command, self.path, dict(self.headers))
        behaviour = web.behaviour(asked)
        content = web.files.get(self.path.split("?")[0])
        if content is None and behaviour.status is None:
            behaviour = replace(behaviour, status=404)
        if behaviour.status is not None:
            self._send(behaviour.status, behaviour.headers, behaviour.body or b"", behaviour)
            return
        content = content if behaviour.body is None else behaviour.body
        status, headers, body = self._part(asked, behaviour, content)
        headers["Content-Length"] = str(len(body) if behaviour.length is None else behaviour.length)
        self._send(status, headers | dict(behaviour.headers), body if instead is None else instead, behaviour)

    def _part(self, asked: Asked, behaviour: Behaviour, content: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {"ETag": behaviour.etag, "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-", asked.range)
        is_same = asked.headers.get("If-Range", behaviour.etag) == behaviour.etag
        if not (match and behaviour.ranges and is_same):
            return 200, headers, content
        start = int(match[1]) + behaviour.shift
        if start >= len(content):
            return 416, headers | {"Content-Range": f"bytes */{len(content)}"}, b""
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206, headers | {"Content-Range": place}, content[start:]

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, behaviour: Behaviour) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        try:
            self.end_headers()
            self._send_body(body, behaviour)
        except OSError:
            self.close_connection = True

    def _send_body(self, body: bytes, behaviour: Behaviour) -> None:
        end = min((n for n in (behaviour.cut_after, behaviour.stall_after) if n is not None), default=len(body))
        self.wfile.write(body[:end])
        self.wfile.flush()
        if behaviour.stall_after is not None:
            self.server.web.released.wait()
        if end < len(body) or behaviour.length is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: WebServer

    def handle_error(self, *_: object) -> None:
        """Ignore it: tests kill clients, and clients close connections early."""


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[WebServer]:
    """Serve files, by paths such as ``/6_dB_fan.zip``, on a free port."""
    web = WebServer(files)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.web = web
        web.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            web.released.set()
            server.shutdown()
            thread.join()
