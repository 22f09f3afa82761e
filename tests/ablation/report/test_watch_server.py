import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ablation.report import watch_server
from ablation.report.watch_server import Document, WatchServer

PAGE, DATA = b"<p>page</p>", b'{"a": 1}'
Send = Callable[[bytes], bytes]


def fail() -> bytes:
    raise ValueError("a file is incomplete")


@pytest.fixture
def server() -> Iterator[WatchServer]:
    """Return a running server with a page, its data, and a document that cannot be read."""
    documents = {
        "": Document("text/html; charset=utf-8", "default-src 'self'", lambda: PAGE),
        "data.json": Document("application/json", "default-src 'none'", lambda: DATA),
        "broken": Document("text/plain", "default-src 'none'", fail),
    }
    with WatchServer("127.0.0.1", 0, documents) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def send(server: WatchServer) -> Send:
    """Return a function that sends bytes and returns the whole answer."""

    def send(content: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return receive(connection)

    return send


def receive(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:  # the server has not read everything
        pass
    return answer


def request(path: str, method: str = "GET", host: str = "localhost") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(errors="surrogateescape")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_documents_are_served_below_the_token(server: WatchServer, send: Send) -> None:
    assert len(server.token) >= 40
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    for name, content in (("", PAGE), ("?x=/y", PAGE), ("data.json", DATA)):
        answer = send(request(f"/{server.token}/{name}"))
        assert status(answer) == 200
        assert body(answer) == content


def test_every_answer_has_the_security_headers(server: WatchServer, send: Send) -> None:
    for path in (f"/{server.token}/", "/"):
        headers = send(request(path)).partition(b"\r\n\r\n")[0].lower()
        for line in (b"cache-control: no-store", b"x-content-type-options: nosniff", b"referrer-policy: no-referrer"):
            assert line in headers
        assert b"content-security-policy: default-src" in headers
        assert b"python" not in headers
    assert b"frame-ancestors 'none'" in headers


@pytest.mark.parametrize("path", ["/", "/x/", "/{}", "/{}x/", "/{}/x", "/{}/../{}/", "/{}/data.json/", "/%2e/{}/",
                                  "//{}/", "{}/", "http://localhost/{}/", "/\udce9/", "/{}/\udce9"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "X"])
def test_anything_else_is_an_empty_404(method: str, path: str, server: WatchServer, send: Send) -> None:
    answer = send(request(path.format(server.token, server.token), method))
    if path == "//{}/":  # http.server reads it as one slash
        assert status(answer) in (200, 405)
        return
    assert status(answer) == 404
    assert body(answer) == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "get", "__init__"])
def test_other_methods_are_refused(method: str, server: WatchServer, send: Send) -> None:
    answer = send(request(f"/{server.token}/", method))
    assert status(answer) == 405
    assert b"Allow: GET, HEAD" in answer
    assert body(answer) == b""


def test_head_has_no_body(server: WatchServer, send: Send) -> None:
    answer = send(request(f"/{server.token}/", "HEAD"))
    assert status(answer) == 200
    assert f"Content-Length: {len(PAGE)}".encode() in answer
    assert body(answer) == b""


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:{}", True),
        ("LOCALHOST", True),
        ("localhost:8888", True),  # through an SSH tunnel
        ("127.0.0.1:{}", True),
        ("[::1]:{}", True),
        ("attacker.example:{}", False),
        ("127.0.0.1.attacker.example", False),
        ("localhost.attacker.example", False),
        ("localhost@attacker.example", False),
        ("localhost:x", False),
        ("", False),
        ("localhost\r\nHost: localhost", False),
    ],
)
def test_a_foreign_host_is_refused(host: str, allowed: bool, server: WatchServer, send: Send) -> None:
    answer = send(request(f"/{server.token}/", host=host.format(server.server_port)))
    assert status(answer) == (200 if allowed else 404)
    assert allowed or body(answer) == b""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\x00\xff\x16\x03\x01",
        b"GET\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET / HTTP/1.1 x y\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
        b"GET /\r\n\r\n",
    ],
)
def test_malformed_requests_do_no_harm(content: bytes, server: WatchServer, send: Send) -> None:
    answer = send(content)
    assert answer == b"" or 400 <= status(answer) < 600
    assert PAGE not in answer
    assert body(send(request(f"/{server.token}/"))) == PAGE


def test_a_document_that_cannot_be_read_is_an_empty_500(server: WatchServer, send: Send) -> None:
    answer = send(request(f"/{server.token}/broken"))
    assert status(answer) == 500
    assert body(answer) == b""


def test_slow_clients_are_disconnected_and_hold_nobody_up(
    monkeypatch: pytest.MonkeyPatch, server: WatchServer, send: Send
) -> None:
    monkeypatch.setattr(watch_server, "CONNECTION_SECONDS", 0.2)
    address = ("127.0.0.1", server.server_port)
    slow = [socket.create_connection(address, timeout=30) for _ in range(2 * watch_server.MAX_CONNECTIONS)]
    try:
        for connection in slow:
            connection.sendall(b"GET / HT")
        assert body(send(request(f"/{server.token}/"))) == PAGE
        assert [receive(connection) for connection in slow] == [b""] * len(slow)
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.slow
def test_a_thousand_requests_are_answered(server: WatchServer, send: Send) -> None:
    content = request(f"/{server.token}/")
    with ThreadPoolExecutor(100) as pool:
        assert {body(answer) for answer in pool.map(send, [content] * 1000)} == {PAGE}
    assert threading.active_count() < 2 * watch_server.MAX_CONNECTIONS + 10


def test_an_ipv6_address_is_in_brackets() -> None:
    try:
        server = WatchServer("::1", 0, {})
    except OSError:
        pytest.skip("IPv6 is not available here")
    with server:
        assert server.url == f"http://[::1]:{server.server_port}/{server.token}/"
        assert server.is_local


def test_all_addresses_are_not_local() -> None:
    with WatchServer("0.0.0.0", 0, {}) as server:
        assert not server.is_local
        assert server.allows_host(socket.gethostname())
        assert server.allows_host("192.0.2.7:80")
        assert not server.allows_host("attacker.example")


def test_each_server_has_its_own_token() -> None:
    with WatchServer("127.0.0.1", 0, {}) as first, WatchServer("127.0.0.1", 0, {}) as second:
        assert first.token != second.token
