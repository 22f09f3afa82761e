"""The server of `ablate watch`: read-only, for whoever has the random token in its address.

The server of the standard library suffices for two documents. A framework would add a dependency, and no limits on the
time of a connection or the number of threads, which are set here.
"""

import hmac
import ipaddress
import re
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MAX_CONNECTIONS = 32  # at once; others wait in the system's queue
QUEUE_LENGTH = 1024
CONNECTION_SECONDS = 15.0  # after this, a connection is closed, however slowly it sends or reads
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"
HOST_HEADER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]+)(?::\d{1,5})?")


class Document(NamedTuple):
    """A document that the server offers.

    Attributes:
        content_type: The content type.
        policy: The content security policy.
        read: Returns the content as it is now.
    """

    content_type: str
    policy: str
    read: Callable[[], bytes]


class WatchServer(ThreadingHTTPServer):
    """Serves documents below a random token.

    Args:
        host: The address to listen on.
        port: The port; 0: any free one.
        documents: The documents by their name; "" is the page itself.

    Raises:
        OSError: If the address cannot be used.
    """

    daemon_threads, block_on_close = True, False
    allow_reuse_port = False
    request_queue_size = QUEUE_LENGTH

    def __init__(self, host: str, port: int, documents: Mapping[str, Document]) -> None:
        self.host, self.documents, self.token = host, documents, secrets.token_urlsafe()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # an IPv6 address has four parts

    def server_bind(self) -> None:
        """Bind the socket, without the name lookup of `HTTPServer`, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()[:2]
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page."""
        address = ipaddress.ip_address(str(self.server_address[0]).partition("%")[0])
        name = socket.gethostname() if address.is_unspecified else str(address)
        return f"http://{f'[{name}]' if ':' in name else name}:{self.server_port}/{self.token}/"

    @property
    def is_local(self) -> bool:
        """Whether only this computer can reach the server."""
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    def allows_host(self, header: str | None) -> bool:
        """Return whether a Host header is an IP address or a name of this server.

        A web page that has its own name resolve to this server sends another one (DNS rebinding).
        """
        match = HOST_HEADER.fullmatch(header or "")
        if match is None:
            return False
        name = match[1].casefold().strip("[]")
        if name in {"localhost", self.host.casefold(), socket.gethostname().casefold()}:
            return True
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, once fewer than `MAX_CONNECTIONS` are in use."""
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request, within `CONNECTION_SECONDS`."""
        timer = threading.Timer(CONNECTION_SECONDS, _shut_down, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that failed."""


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request per connection (HTTP/1.0)."""

    server: WatchServer
    timeout = CONNECTION_SECONDS

    def do_GET(self) -> None:  # the names that http.server calls
        document = self._document()
        if document is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        try:
            content = document.read()
        except Exception:  # the next request may succeed, for example when a file is complete
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self._answer(HTTPStatus.OK, document, content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer an invalid request, or a method that does not exist here."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.NOT_FOUND if self._document() is None else HTTPStatus.METHOD_NOT_ALLOWED
        self._answer(code)

    def _document(self) -> Document | None:
        """Return the requested document; None if the token, the host or the path is wrong."""
        _, token, *names = self.path.partition("?")[0].split("/") if self.path.startswith("/") else ("", "")
        is_token = hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        hosts = self.headers.get_all("Host") or []
        if not is_token or len(hosts) != 1 or not self.server.allows_host(hosts[0]) or len(names) != 1:
            return None
        return self.server.documents.get(names[0])

    def _answer(self, code: int, document: Document | None = None, content: bytes = b"") -> None:
        self.close_connection = True
        self.send_response(code)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", document.policy if document else NO_CONTENT_POLICY)
        self.send_header("Content-Length", str(len(content)))
        if document:
            self.send_header("Content-Type", document.content_type)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """Return the name of the server, without versions."""
        return "ablate"

    def log_message(self, format: str, *args: Any) -> None:  # the name of the base class's parameter
        """Log nothing."""
