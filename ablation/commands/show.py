"""`ablate show`: the complete definition of a benchmark as TOML."""

from typing import Annotated

import typer

from benchmarks.cli.options import complete_benchmark


def show(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="A built-in benchmark (`ablate list benchmarks`), or a TOML file.",
            autocompletion=complete_benchmark,
        ),
    ],
) -> int:
    """Print the complete definition of a benchmark as TOML, to copy and change.

    The printed name of a built-in benchmark starts with my_, because a file cannot reuse the name of a built-in one.
    """
    from benchmarks.definition.registry import BENCHMARKS, get_benchmark
    from benchmarks.definition.toml_file import write_benchmark

    found = get_benchmark(benchmark)
    print(write_benchmark(found, f"my_{found.name}" if found.name in BENCHMARKS else found.name), end="")
    return 0
