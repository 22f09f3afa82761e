"""`ablate watch`: serve the interactive report while runs are trained."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arch.errors import InputError
from arch.text import printable, shorten
from benchmarks.cli.app import print_line
from benchmarks.cli.options import DEFAULT_OUT, OutOption
from benchmarks.execution.signals import Terminated

if TYPE_CHECKING:
    from ablation.report.watch_server import WatchServer

LOCAL_HOST = "127.0.0.1"


def watch(
    plan: Annotated[
        str | None,
        typer.Argument(metavar="[PLAN]", help="A plan, as for `ablate run`  [default: the plan in training]"),
    ] = None,
    out: OutOption = DEFAULT_OUT,
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any free port.")] = 0,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDR", help="Address to listen on; 0.0.0.0: all addresses.")
    ] = LOCAL_HOST,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> int:
    """Serve the interactive report on PLAN while `ablate run` trains it, until Ctrl-C.

    The page shows the epochs, the remaining time and the failures. Its address contains a random token, without which
    the server answers nothing. Nothing can be changed through it.
    """
    server = _make_server(out, plan, host, port)
    if not server.is_local:
        print(
            f"warning: everyone who can reach {host} and has this address can read the results, "
            "and the connection is not encrypted",
            file=sys.stderr,
        )
    if not out.is_dir():
        print(f"note: {out} does not exist yet", file=sys.stderr)
    print_line(server.url)
    print("Press Ctrl-C to stop.", file=sys.stderr, flush=True)
    if open_browser:
        import webbrowser

        webbrowser.open(server.url)
    with server:
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Terminated):
            print("stopped", file=sys.stderr)
    return 0


def _make_server(out: Path, plan: str | None, host: str, port: int) -> "WatchServer":
    from ablation.report.html.live_page import LivePage, page_policy
    from ablation.report.watch_server import NO_CONTENT_POLICY, Document, WatchServer

    page = LivePage(out, plan)
    documents = {
        "": Document("text/html; charset=utf-8", page_policy(), page.html),
        "data.json": Document("application/json", NO_CONTENT_POLICY, page.data_json),
    }
    try:
        return WatchServer(host, port, documents)
    except (OSError, UnicodeError) as error:  # includes unknown and invalid names
        reason = getattr(error, "strerror", "") or error
        raise InputError(f"cannot listen on --host {shorten(printable(host))} --port {port}: {reason}") from error
