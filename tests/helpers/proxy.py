"""A proxy in front of an S3 server that spoils what tests want spoiled, and notes every request.

It forwards heads as they are, Host too, so that signatures hold, and bodies piece by piece.
"""

import asyncio
import contextlib
import itertools
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from tests.helpers.servers import HOST, S3Address, wait_for

PIECE = 1 << 16
CHUNKED = -1


class CutError(Exception):
    """Ends a connection on purpose."""


@dataclass(frozen=True)
class Answer:
    """Answer with an error in the place of the server, which gets nothing."""

    status: int
    code: str
    has_words: bool = True

    def message(self, request: "Request") -> tuple[bytes, bytes]:
        """Return the head and the body."""
        words = f"<Message>{self.code}, says the proxy.</Message>" if self.has_words else ""
        error = f"<Error><Code>{self.code}</Code>{words}</Error>"
        body = b"" if request.method == "HEAD" else f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode()
        head = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Content-Type: application/xml",
            f"Content-Length: {len(body)}",
            *(["Connection: close"] if request.waits_to_send else []),
        ]
        return "\r\n".join([*head, "", ""]).encode(), body


SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL_ERROR = Answer(500, "InternalError")
EXPIRED_TOKEN = Answer(400, "ExpiredToken")  # 400, not 403, is what S3 answers
ACCESS_DENIED = Answer(403, "AccessDenied")
INVALID_ACCESS_KEY = Answer(403, "InvalidAccessKeyId")


class _Cut:
    async def strike(self) -> None:
        raise CutError


@dataclass(frozen=True)
class CutRequest(_Cut):
    """Close the connection when the server has got this many bytes of the body; None: when it has got nothing."""

    after: int | None = None


@dataclass(frozen=True)
class CutAnswer(_Cut):
    """Close the connection when the client has got this many bytes of the body.

    None: when the server has done what was asked, and before the client has the answer.
    """

    after: int | None = None


@dataclass(frozen=True)
class Stall:
    """Send the client nothing for some seconds, after this many bytes of the body (None: before the head)."""

    seconds: float
    after: int | None = None

    async def strike(self) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Hold:
    """Send the client nothing until an event is set, as the rules for later requests can."""

    until: asyncio.Event
    after: None = None

    async def strike(self) -> None:
        await self.until.wait()


Fault = Answer | CutRequest | CutAnswer | Stall | Hold


@dataclass
class Request:
    """What the proxy noted of a request; times are those of time.monotonic()."""

    method: str
    path: str
    """With the query, as it was sent."""
    headers: dict[str, str] = field(repr=False)
    """Their names in lower case."""
    connection: int
    """Which of the client's connections carried it, from 1."""
    began: float
    ended: float | None = None
    """None as long as the request is under way."""
    status: int | None = None
    """What the server answered, or the proxy in its place."""
    body_length: int = 0
    answer_length: int = 0
    """How much of the body the client was sent, with what frames its chunks."""
    fault: Fault | None = None
    sent: list[bytes] = field(default_factory=list, repr=False)
    """All that the client sent, if the proxy keeps bytes."""

    @property
    def waits_to_send(self) -> bool:
        """Say whether the client sends the body only after the server's consent."""
        return "100-continue" in self.headers.get("expect", "").lower()


@dataclass
class Rule:
    """Gives a fault to requests with this method and a path in which this pattern is found: to some, or all."""

    fault: Fault
    method: str | None = None
    path: str = ""
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    used: int = 0
    seen: Counter[str] = field(default_factory=Counter, repr=False)

    def __call__(self, request: Request) -> Fault | None:
        if self.method not in {None, request.method} or not re.search(self.path, request.path):
            return None
        if self.used == self.times or self._draw(request) >= self.probability:
            return None
        self.used += 1
        return self.fault

    def _draw(self, request: Request) -> float:
        # From the request and how often it was made, so that the order of clients changes nothing.
        what = f"{request.method} {request.path} {request.headers.get('range')}"
        self.seen[what] += 1
        return random.Random(f"{self.seed} {what} {self.seen[what]}").random()


@dataclass
class Proxy(S3Address):
    """What the proxy is to do, and what it has seen; a test may change and read it at any time."""

    port: int
    access_key: str
    secret_key: str = field(repr=False)
    upstream: int
    """The port of the server."""
    latency: float = 0.0
    """Seconds before each request is forwarded."""
    rate: float | None = None
    """Bytes a second and connection, both ways together."""
    seed: int = 0
    keep_bytes: bool = False
    rules: list[Callable[[Request], Fault | None]] = field(default_factory=list)
    """The first that gives a request a fault counts."""
    requests: list[Request] = field(default_factory=list, repr=False)
    most_at_once: int = 0
    """The highest number of requests that were under way together."""
    under_way: int = 0
    errors: list[Exception] = field(default_factory=list)

    def spoil(self, fault: Fault, **where: object) -> Rule:
        """Give a fault to the requests that a rule made of these arguments chooses."""
        self.rules.append(rule := Rule(fault, seed=self.seed, **where))
        return rule

    def sent(self) -> bytes:
        """Return all that clients sent, request by request; needs keep_bytes."""
        return b"\n".join(b"".join(request.sent) for request in list(self.requests))

    def begin(self, head: "_Head", connection: int) -> Request:
        request = Request(head.words[0], head.words[1], head.headers, connection, time.monotonic())
        self.note(request, head.raw)
        self.requests.append(request)
        request.fault = next(filter(None, (rule(request) for rule in self.rules)), None)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        return request

    def end(self, request: Request) -> None:
        if request.ended is None:
            request.ended = time.monotonic()
            self.under_way -= 1

    def finished(self) -> list[Request]:
        """Wait until no request is under way, and return all: a client may know of the end before it is noted."""
        wait_for(lambda: not self.under_way, "the end of all requests")
        return list(self.requests)

    def note(self, request: Request, data: bytes) -> None:
        if self.keep_bytes:
            request.sent.append(data)


@contextlib.contextmanager
def proxy_to(server: S3Address, **how: object) -> Iterator[Proxy]:
    """Put a proxy in front of a server, in a thread; the arguments are fields of Proxy."""
    # The system queues connections from here on: the proxy is ready before its thread has begun.
    with socket.create_server((HOST, 0)) as listener, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        # What it accepts inherits this; without it, many an answer waits 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        proxy = Proxy(port, server.access_key, server.secret_key, server.port, **how)
        loop, stop = runner.get_loop(), asyncio.Event()
        thread = threading.Thread(target=runner.run, args=[_serve(proxy, listener, stop)], daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
    if proxy.errors:
        raise proxy.errors[0]


async def _serve(proxy: Proxy, listener: socket.socket, stop: asyncio.Event) -> None:
    connections: set[asyncio.Task[None]] = set()
    numbers = itertools.count(1)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_Connection(proxy, next(numbers), reader, writer).run())
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, sock=listener, limit=PIECE, backlog=1000)
    await stop.wait()
    server.close()
    while connections:
        for task in connections:
            task.cancel()
        await asyncio.wait(connections, timeout=0.1)


class _Connection:
    """A connection of a client, and the one to the server that is opened for it."""

    def __init__(self, proxy: Proxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.number = proxy, number
        self.client, self.to_client = reader, writer
        self.server: asyncio.StreamReader | None = None
        self.to_server: asyncio.StreamWriter | None = None
        self.free = 0.0

    async def run(self) -> None:
        try:
            while (head := await _read_head(self.client)) and await self._exchange(head):
                pass
        except (CutError, EOFError, OSError):
            pass  # one side has closed, or shall believe that the other one has
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.proxy.errors.append(error)
        finally:
            await close_writers(self.to_client, self.to_server)

    async def _exchange(self, head: "_Head") -> bool:
        """Handle a request; say whether another one may follow."""
        request = self.proxy.begin(head, self.number)
        try:
            await asyncio.sleep(self.proxy.latency)
            if isinstance(request.fault, Answer):
                return await self._answer(request, head)
            if request.fault == CutRequest():
                raise CutError
            return await self._forward(request, head)
        finally:
            self.proxy.end(request)

    async def _answer(self, request: Request, head: "_Head") -> bool:
        if not request.waits_to_send:
            await self._upload(request, head, None)
        first, body = request.fault.message(request)
        request.status, request.answer_length = request.fault.status, len(body)
        await self._send(self.to_client, first + body)
        self.proxy.end(request)
        return not (head.closes or request.waits_to_send)

    async def _forward(self, request: Request, head: "_Head") -> bool:
        await self._connect()
        await self._send(self.to_server, head.raw)
        upload = asyncio.create_task(self._upload(request, head, self.to_server))
        download = asyncio.create_task(self._download(request))
        try:
            await asyncio.wait([upload, download], return_when=asyncio.FIRST_COMPLETED)
            if upload.done():
                upload.result()
            more = await download
            # A client that the server did not ask for the body does not send it, and the connection is of no more use.
            if not request.waits_to_send:
                await upload
            return more and upload.done() and not head.closes
        finally:
            upload.cancel()
            download.cancel()
            await asyncio.gather(upload, download, return_exceptions=True)

    async def _connect(self) -> None:
        # The server may have closed an idle connection: a client without a proxy would see that, and open a new one.
        if self.server is None or self.server.at_eof() or self.server.exception():
            await close_writers(self.to_server)
            self.server, self.to_server = await asyncio.open_connection(HOST, self.proxy.upstream, limit=PIECE)

    async def _upload(self, request: Request, head: "_Head", to_server: asyncio.StreamWriter | None) -> None:
        fault = request.fault if isinstance(request.fault, CutRequest) else None
        async for piece in _struck(_pieces(self.client, head.length or 0), fault):
            request.body_length += len(piece)
            self.proxy.note(request, piece)
            if to_server:
                with contextlib.suppress(OSError):  # a server that closes early has answered, and the answer counts
                    await self._send(to_server, piece)

    async def _download(self, request: Request) -> bool:
        answer = await self._read_answer()
        request.status = answer.status
        fault = request.fault if isinstance(request.fault, CutAnswer | Stall | Hold) else None
        if fault and fault.after is None:
            await fault.strike()
        await self._send(self.to_client, answer.raw)
        length = 0 if request.method == "HEAD" or answer.status in {204, 304} else answer.length
        async for piece in _struck(_pieces(self.server, length), fault):
            request.answer_length += len(piece)
            await self._send(self.to_client, piece)
        self.proxy.end(request)  # at once: the client's next one may already be on its way
        return length is not None and not answer.closes

    async def _read_answer(self) -> "_Head":
        """Return the head of the answer proper; pass on what is sent before it, such as 100 Continue."""
        while True:
            if not (head := await _read_head(self.server)):
                raise CutError
            if head.status >= 200:
                return head
            await self._send(self.to_client, head.raw)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        rate = self.proxy.rate
        step = max(512, int(rate / 50)) if rate else len(data)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            if rate:
                await asyncio.sleep(self.free - time.monotonic())
                self.free = max(self.free, time.monotonic()) + len(piece) / rate
            writer.write(piece)
            await writer.drain()


class _Head:
    """The first lines of a request or an answer."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.words = first.split(" ", 2)
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def status(self) -> int:
        return int(self.words[1])

    @property
    def length(self) -> int | None:
        """Return the length of the body, or CHUNKED; None where nothing is said of it."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return CHUNKED
        return int(self.headers["content-length"]) if "content-length" in self.headers else None

    @property
    def closes(self) -> bool:
        return "HTTP/1.0" in self.words or "close" in self.headers.get("connection", "").lower()


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """Return None where the connection was closed between requests."""
    try:
        return _Head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


async def close_writers(*writers: asyncio.StreamWriter | None) -> None:
    """Close connections when all that was written has been sent, or at once if cancelled; any may be closed already."""
    opened = [writer for writer in writers if writer]
    for writer in opened:
        writer.close()
    closings = asyncio.gather(*(writer.wait_closed() for writer in opened), return_exceptions=True)
    try:
        await asyncio.shield(closings)  # wait_closed() that is cancelled is cancelled for later callers, too
    finally:
        for writer in opened:
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    # A transport that sent the rest of its buffer after close() has lost its event loop, and abort() would need it.
    if writer.get_extra_info("socket").fileno() != -1:
        writer.transport.abort()


async def _pieces(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Yield a body as it was sent."""
    if length == CHUNKED:
        pieces = _chunks(reader)
    elif length is None:
        pieces = _rest(reader)
    else:
        pieces = _exactly(reader, length)
    async for piece in pieces:
        yield piece


async def _exactly(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        if not (piece := await reader.read(min(length, PIECE))):
            raise EOFError
        length -= len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    size = 1
    while size:
        yield (line := await reader.readuntil(b"\n"))
        size = int(line.partition(b";")[0], 16)
        async for piece in _exactly(reader, size + 2 if size else 0):
            yield piece
    while line != b"\r\n":  # the headers that may follow
        yield (line := await reader.readuntil(b"\n"))


async def _rest(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(PIECE):
        yield piece


async def _struck(pieces: AsyncIterator[bytes], fault: CutRequest | CutAnswer | Stall | None) -> AsyncIterator[bytes]:
    """Pass pieces on; let the fault strike where it is to."""
    left = None if fault is None else fault.after
    async for piece in pieces:
        rest = piece
        if left is not None and left < len(piece):
            if left:
                yield piece[:left]
            await fault.strike()
            rest, left = piece[left:], None
        elif left is not None:
            left -= len(piece)
        yield rest
