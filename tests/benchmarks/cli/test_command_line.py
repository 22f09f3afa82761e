from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli.command_line import given_words

NO_FILES: Any = ()


@dataclass(frozen=True)
class Options:
    seeds: Annotated[int | None, typer.Option("--seeds")] = None
    hours: Annotated[float | None, typer.Option("--hours")] = None
    as_json: Annotated[bool, typer.Option("--json")] = False
    plugins: Annotated[list[Path], typer.Option("--plugin", metavar="FILE")] = NO_FILES
    name: Annotated[str, typer.Option("--name")] = "digits"


def test_only_options_that_differ_from_their_defaults_are_written() -> None:
    assert given_words(Options()) == []
    assert given_words(Options(plugins=[], name="digits")) == []
    options = Options(3, 0.0, True, [Path("a b.py"), Path("c.py")], "x")
    assert given_words(options, leave_out=("name",)) == [
        *("--seeds", "3", "--hours", "0.0", "--json", "--plugin", "a b.py", "--plugin", "c.py")
    ]
