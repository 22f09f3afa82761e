import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ablation.cli import main

COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND += "from ablation.cli import main; raise SystemExit(main())"


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_it_is_stopped(end: signal.Signals, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "watch", "--out", str(tmp_path / "out")],
        cwd=Path(__file__).parents[3],
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{40,}/", url)
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b"No results yet" in answer.read()
        process.send_signal(end)
        assert process.wait(60) == 0
        assert process.stderr.read().splitlines()[-1] == "stopped"


def test_other_addresses_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("ablation.report.watch_server.WatchServer.serve_forever", lambda server: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["watch", "--out", str(tmp_path), "--host", "0.0.0.0", "--open"]) == 0
    output = capsys.readouterr()
    assert "warning" in output.err
    assert "0.0.0.0" in output.err
    assert opened == [output.out.strip()]
    assert main(["watch", "--out", str(tmp_path)]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "", "ü..com", "a" * 300])
def test_an_impossible_address_is_one_line(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--out", str(tmp_path), "--host", host]) == 2
    assert "--host" in capsys.readouterr().err
