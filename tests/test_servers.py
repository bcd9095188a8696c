"""The S3 servers and the proxy that other tests rely on do what they say."""

import asyncio
import http.client
import itertools
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from tests.helpers.commands import environment
from tests.helpers.http_server import serve
from tests.helpers.proxy import (
    ACCESS_DENIED,
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    INVALID_ACCESS_KEY,
    SLOW_DOWN,
    CutAnswer,
    CutRequest,
    Request,
    Rule,
    Stall,
    close_writers,
    proxy_to,
)
from tests.helpers.servers import HOST, client, filesystem, rclone_server, wait_for

MIB = 1 << 20
BODY = bytes(range(256)) * 1024


@pytest.fixture
def bucket(server):
    """Make a bucket with one object in it."""
    return filled(server)


NAMES = (f"bucket-{number}" for number in itertools.count())


def filled(server):
    s3, name = client(server), next(NAMES)
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="object", Body=BODY)
    return name


def get(address, bucket, key="object", **how):
    return client(address).get_object(Bucket=bucket, Key=key, **how)["Body"].read()


def keys(address, bucket):
    return [found["Key"] for found in client(address).list_objects_v2(Bucket=bucket).get("Contents", [])]


def round_trip(address, bucket):
    files, s3 = filesystem(address), client(address)
    files.pipe(f"{bucket}/folder/small", b"0123456789")
    assert files.cat(f"{bucket}/folder/small") == b"0123456789"
    assert files.cat_file(f"{bucket}/folder/small", start=2, end=5) == b"234"
    assert files.cat_file(f"{bucket}/folder/small", start=-3) == b"789"
    s3.put_object(Bucket=bucket, Key="folder/a file é", Body=BytesIO(BODY))  # asks before it sends
    with files.open(f"{bucket}/folder/large", "wb", block_size=5 * MIB) as large:
        large.write(BODY * 48)  # 12 MiB, in parts
    assert files.cat(f"{bucket}/folder/large") == BODY * 48
    assert files.info(f"{bucket}/folder/large")["size"] == 12 * MIB
    assert s3.get_object(Bucket=bucket, Key="folder/large", Range="bytes=4095-4097")["Body"].read() == b"\xff\0\1"
    assert files.find(bucket) == [f"{bucket}/folder/{name}" for name in ("a file é", "large", "small")]
    assert files.ls(bucket) == [f"{bucket}/folder"]
    files.rm(f"{bucket}/folder", recursive=True)
    assert files.find(bucket) == []
    with pytest.raises(FileNotFoundError):
        files.cat(f"{bucket}/folder/small")


@pytest.mark.parametrize("through_proxy", [False, True])
def test_objects_are_put_got_listed_and_deleted(server, bucket, through_proxy):
    client(server).delete_object(Bucket=bucket, Key="object")
    if not through_proxy:
        round_trip(server, bucket)
        return
    with proxy_to(server) as proxy:
        round_trip(proxy, bucket)
        assert all(request.ended and request.status < 500 for request in proxy.finished())


def test_the_environment_is_all_that_a_client_needs(server, bucket, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3 = boto3.session.Session().client("s3")
    assert s3.meta.endpoint_url == server.endpoint
    assert s3.get_object(Bucket=bucket, Key="object", Range="bytes=0-1")["Body"].read() == b"\0\1"


def test_rclone_refuses_a_wrong_signature(rclone):
    bucket = filled(rclone)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch") as refused:
        get(replace(rclone, secret_key=rclone.access_key), bucket)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_rclone_killed_and_started_again_has_its_objects(tmp_path):
    with rclone_server(tmp_path) as server:
        bucket = filled(server)
        server.kill()
        with pytest.raises(BotoCoreError):
            get(server, bucket)
        (tmp_path / bucket / "beside").write_bytes(b"put there by hand")
        server.start()
        assert get(server, bucket) == BODY
        assert get(server, bucket, "beside") == b"put there by hand"
    with rclone_server(tmp_path, server.port) as again:
        assert again.port == server.port
        assert keys(again, bucket) == ["beside", "object"]


@pytest.mark.parametrize("key", ["object", "new"])
def test_an_object_half_sent_when_rclone_is_killed_is_not_listed(tmp_path, key):
    with rclone_server(tmp_path) as server, ThreadPoolExecutor() as pool, proxy_to(server, rate=MIB / 4) as proxy:
        bucket = filled(server)
        put = pool.submit(client(proxy).put_object, Bucket=bucket, Key=key, Body=BODY * 16)
        wait_for(lambda: [file for file in (tmp_path / bucket).glob(".rclone_temp*") if file.stat().st_size], "a part")
        assert keys(server, bucket) == ["object"]
        server.kill()
        assert isinstance(put.exception(), ConnectionClosedError)
        server.start()
        assert keys(server, bucket) == ["object"]
        assert get(server, bucket) == BODY


def test_servers_end_with_the_process_that_started_them(tmp_path):
    program = (
        "from tests.helpers.servers import moto_server, rclone_server\n"
        "with moto_server() as moto, rclone_server('.') as rclone: print(moto.port, rclone.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),  # where what it leaves is found and deleted
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        ports = [int(port) for port in process.stdout.readline().split()]
        assert [refuses(port) for port in ports] == [False, False]
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: all(map(refuses, ports)), "the end of the servers")


def refuses(port):
    connection = http.client.HTTPConnection(HOST, port)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except ConnectionError:
        return True
    finally:
        connection.close()
    return False


def test_a_program_that_does_not_start_is_an_error_with_its_output(rclone, tmp_path):
    with pytest.raises(RuntimeError, match="in use"), rclone_server(tmp_path, rclone.port):
        pass


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL_ERROR, EXPIRED_TOKEN, ACCESS_DENIED, INVALID_ACCESS_KEY])
def test_the_proxy_answers_with_an_error(rclone, fault):
    bucket = filled(rclone)
    with proxy_to(rclone) as proxy:
        rule = proxy.spoil(fault, method="GET", path="/object", times=1)
        with pytest.raises(ClientError) as error:
            get(proxy, bucket)
        assert error.value.response["Error"]["Code"] == fault.code
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == fault.status
        assert get(proxy, bucket) == BODY
        assert rule.used == 1
        assert [request.status for request in proxy.finished()] == [fault.status, 200]


@pytest.mark.parametrize("body", [bytes, BytesIO])  # for a file, the client waits until the server asks for it
def test_a_put_that_the_proxy_answers_is_not_forwarded(rclone, body):
    bucket = filled(rclone)
    with proxy_to(rclone) as proxy:
        proxy.spoil(SLOW_DOWN, method="PUT", times=1)
        s3 = client(proxy)
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket=bucket, Key="new", Body=body(BODY))
        assert keys(rclone, bucket) == ["object"]
        s3.put_object(Bucket=bucket, Key="new", Body=body(BODY))
        assert get(rclone, bucket, "new") == BODY


def test_a_head_that_the_proxy_answers_has_no_body(rclone):
    with proxy_to(rclone) as proxy:
        proxy.spoil(ACCESS_DENIED, times=1)
        s3 = client(proxy)
        with pytest.raises(ClientError, match="403"):
            s3.head_object(Bucket="bucket", Key="object")
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket="bucket", Key="object")
        assert {request.connection for request in proxy.finished()} == {1}


@pytest.mark.parametrize(
    ("fault", "there"), [(CutRequest(), False), (CutRequest(after=1000), False), (CutAnswer(), True)]
)
def test_the_proxy_cuts_a_put_before_or_after_the_server_has_done_it(server, bucket, fault, there):
    with proxy_to(server) as proxy:
        proxy.spoil(fault, method="PUT")
        with pytest.raises(BotoCoreError):
            client(proxy).put_object(Bucket=bucket, Key="new", Body=BODY)
    assert ("new" in keys(server, bucket)) is there


def signed(address, operation, **what):
    """Return a path that a client without any key can ask for."""
    url = client(address, signature_version="s3v4").generate_presigned_url(operation, what)
    return url.removeprefix(address.endpoint)


@pytest.mark.parametrize("after", [0, 1, 1000, len(BODY) - 1])
def test_the_proxy_cuts_an_answer_at_the_byte(server, bucket, after):
    with proxy_to(server) as proxy:
        proxy.rules.append(lambda request: CutAnswer(after) if "range" in request.headers else None)
        connection = http.client.HTTPConnection(HOST, proxy.port)
        connection.request(
            "GET", signed(proxy, "get_object", Bucket=bucket, Key="object"), headers={"Range": "bytes=0-"}
        )
        with pytest.raises(http.client.IncompleteRead) as cut:
            connection.getresponse().read()
        connection.close()
        assert cut.value.partial == BODY[:after]
        assert get(proxy, bucket) == BODY


@pytest.mark.parametrize("after", [None, 0, 1000])
def test_the_proxy_stalls(rclone, after):
    bucket = filled(rclone)
    with proxy_to(rclone) as proxy:
        rule = proxy.spoil(Stall(0.2, after))
        begun = time.monotonic()
        assert get(proxy, bucket) == BODY
        assert time.monotonic() - begun > 0.2
        rule.fault = Stall(1000, after)
        with pytest.raises(ReadTimeoutError):
            client(proxy, read_timeout=0.1).get_object(Bucket=bucket, Key="object")["Body"].read()


def test_the_proxy_adds_latency_and_limits_the_rate(rclone):
    bucket = filled(rclone)
    with proxy_to(rclone, latency=0.1) as proxy:
        assert get(proxy, bucket) == BODY
        proxy.latency, proxy.rate = 0, 2 * len(BODY)
        assert get(proxy, bucket, Range=f"bytes=0-{len(BODY) // 2 - 1}") == BODY[: len(BODY) // 2]
        late, slow = (request.ended - request.began for request in proxy.finished())
    assert late > 0.1
    assert slow > 0.2


def test_the_proxy_notes_requests(rclone):
    bucket = filled(rclone)
    with proxy_to(rclone) as proxy:
        s3 = client(proxy)
        s3.put_object(Bucket=bucket, Key="new", Body=b"12345")
        s3.get_object(Bucket=bucket, Key="new", Range="bytes=1-2")["Body"].read()
        s3.list_objects_v2(Bucket=bucket, Prefix="n")
        put, part, listing = proxy.finished()
        assert (put.method, put.path, put.status, put.body_length) == ("PUT", f"/{bucket}/new", 200, 5)
        assert (part.headers["range"], part.status, part.answer_length) == ("bytes=1-2", 200, 2)
        assert f"/{s3.meta.region_name}/s3/aws4_request" in part.headers["authorization"]
        assert "list-type=2&prefix=n" in listing.path
        assert put.connection == part.connection == listing.connection == 1
        assert put.began < put.ended < part.began
        assert proxy.most_at_once == 1


def test_the_proxy_counts_the_requests_that_are_under_way_together(rclone):
    bucket, n_clients = filled(rclone), 5
    with ThreadPoolExecutor(n_clients) as pool, proxy_to(rclone) as proxy:
        proxy.spoil(Stall(1000))
        gets = [pool.submit(get, proxy, bucket) for _ in range(n_clients)]
        wait_for(lambda: proxy.under_way == n_clients, "all requests")
    assert all(isinstance(get.exception(), BotoCoreError) for get in gets)  # the proxy's end is also theirs
    assert proxy.most_at_once == n_clients
    assert proxy.under_way == 0


def test_the_proxy_keeps_what_clients_sent(rclone):
    bucket = filled(rclone)
    with proxy_to(rclone, keep_bytes=True) as proxy:
        client(proxy).put_object(Bucket=bucket, Key="new", Body=BODY)
        assert proxy.access_key.encode() in proxy.sent()
        assert proxy.secret_key.encode() not in proxy.sent()
        assert proxy.sent().endswith(BODY)


def test_a_body_sent_in_chunks_passes_through_the_proxy(moto):
    bucket = filled(moto)
    with proxy_to(moto) as proxy:
        connection = http.client.HTTPConnection(HOST, proxy.port)
        connection.request("PUT", f"/{bucket}/new", body=iter([b"12", b"345"]), encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
        assert proxy.requests[0].body_length == len("2\r\n12\r\n3\r\n345\r\n0\r\n\r\n")
    assert get(moto, bucket, "new") == b"12345"


def test_an_answer_in_chunks_passes_through_the_proxy(rclone):
    bucket, s3 = filled(rclone), client(rclone)
    for number in range(30):
        s3.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"")
    with proxy_to(rclone) as proxy:
        connection = http.client.HTTPConnection(HOST, proxy.port)
        for _ in range(2):  # through the same connection
            connection.request("GET", signed(proxy, "list_objects_v2", Bucket=bucket))
            answer = connection.getresponse()
            assert answer.getheader("Transfer-Encoding") == "chunked"
            assert answer.read().count(b"<Key>") == 31
        connection.close()
        assert [request.connection for request in proxy.requests] == [1, 1]


def test_the_proxy_outlives_the_server(tmp_path):
    with rclone_server(tmp_path) as server, proxy_to(server) as proxy:
        bucket, s3 = filled(proxy), client(proxy)
        s3.head_object(Bucket=bucket, Key="object")
        server.kill()
        with pytest.raises(BotoCoreError):
            s3.head_object(Bucket=bucket, Key="object")
        server.start()
        assert s3.head_object(Bucket=bucket, Key="object")["ContentLength"] == len(BODY)


MORE_THAN_FITS = bytes(8 * MIB)
"""More than a socket takes at once: some is still to be sent when the connection is closed."""


async def connected():
    """Return a writer, and the socket that it writes to."""
    near, far = socket.socketpair()
    far.settimeout(0)
    return (await asyncio.open_connection(sock=near))[1], far


async def closed_after_the_rest_was_sent():
    writer, far = await connected()
    writer.write(MORE_THAN_FITS)
    closing = asyncio.create_task(close_writers(writer))
    with far:
        while await asyncio.get_running_loop().sock_recv(far, MIB):
            pass
        await closing
    return writer


async def closed_by_the_other_side():
    writer, far = await connected()
    writer.write(MORE_THAN_FITS)
    far.close()
    return writer


async def cancelled_while_nothing_is_read():
    writer, far = await connected()
    with far:
        writer.write(MORE_THAN_FITS)
        closing = asyncio.create_task(close_writers(writer))
        await asyncio.sleep(0)  # it has begun
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
    return writer


@pytest.mark.parametrize(
    "close", [closed_after_the_rest_was_sent, closed_by_the_other_side, cancelled_while_nothing_is_read]
)
def test_connections_of_the_proxy_are_closed_in_any_order(close):
    async def close_all():
        first, (second, far) = await close(), await connected()
        with far:
            await close_writers(first, second)
            await close_writers(second, first, None)
        assert all(writer.get_extra_info("socket").fileno() == -1 for writer in (first, second))

    asyncio.run(close_all())


@pytest.mark.parametrize("n_read", [0, 1, MIB])
def test_a_client_that_closes_while_the_proxy_sends_is_no_error(rclone, n_read):
    bucket = filled(rclone)
    client(rclone).put_object(Bucket=bucket, Key="large", Body=MORE_THAN_FITS)
    with proxy_to(rclone) as proxy, socket.create_connection((HOST, proxy.port)) as connection:
        path = signed(proxy, "get_object", Bucket=bucket, Key="large")
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{proxy.port}\r\n\r\n".encode())
        wait_for(lambda: len(proxy.requests), "the request")
        assert len(connection.recv(n_read, socket.MSG_WAITALL)) == n_read
        connection.close()
        assert [request.method for request in proxy.finished()] == ["GET"]


@pytest.mark.parametrize("n_read", [0, 1, MIB])
def test_a_client_that_closes_while_the_web_server_sends_is_no_error(n_read):
    with serve({"/file": MORE_THAN_FITS}) as web:
        with socket.create_connection((HOST, int(web.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET /file HTTP/1.1\r\n\r\n")
            assert len(connection.recv(n_read, socket.MSG_WAITALL)) == n_read
        wait_for(lambda: web.asked and not web.under_way, "the end of the answer")


def test_chance_depends_on_the_seed_and_not_on_the_order():
    def struck(seed, order):
        rule = Rule(SLOW_DOWN, probability=0.3, seed=seed)
        requests = [Request("GET", f"/bucket/{number}", {}, 1, 0) for number in order]
        return {request.path for request in requests if rule(request)}

    numbers = range(100)
    assert struck(1, numbers) == struck(1, reversed(numbers))
    assert struck(1, numbers) != struck(2, numbers)
    assert 10 < len(struck(1, numbers)) < 50


def test_an_exception_in_a_rule_is_raised(rclone):
    def wrong(_):
        raise ZeroDivisionError

    def ask():
        with proxy_to(rclone, rules=[wrong]) as proxy:
            refuses(proxy.port)

    with pytest.raises(ZeroDivisionError):
        ask()
