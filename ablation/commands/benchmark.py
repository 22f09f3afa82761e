"""`ablate benchmark import`: convert the `args.yaml` of a run of timm's training script to a benchmark."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arch.errors import InputError
from benchmarks.cli.app import new_app
from benchmarks.definition.names import MAX_IDENTIFIER_CHARACTERS, check_path

if TYPE_CHECKING:
    from benchmarks.definition.benchmark import Benchmark

app = new_app("Create benchmarks.")


@app.callback()
def benchmark() -> None:
    """Create benchmarks."""


@app.command("import")
def import_benchmark(
    file: Annotated[Path, typer.Argument(metavar="ARGS.yaml", help="The args.yaml of a run of timm's train.py.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.toml",
            help="The file to write  [default: standard output]",
            callback=lambda path: path and check_path("--out", path),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the benchmark  [default: timm_MODEL]"),
    ] = None,
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size", metavar="N", min=1, max=4096, help="Devices of the run; args.yaml omits it  [default: 1]"
        ),
    ] = None,
) -> int:
    """Convert a run of timm's train.py to a benchmark, and list the settings that it cannot contain.

    The result is a TOML file for --benchmark. Settings that change no result, such as paths, are not listed.
    """
    from benchmarks.definition.timm_args import read_yaml
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import silent
    from benchmarks.records.atomic_write import replace_file

    if out is not None and (out.suffix != ".toml" or out.exists()):
        raise InputError(f"--out {out} must be a new file whose name ends with .toml")
    content = read_yaml(file)
    imported, lines = LocalExecutor().call(
        "benchmarks.training.timm_import:import_timm_run",
        silent,
        content,
        file,
        name or _default_name(str(content["model"])),
        world_size or 1,
    )
    if world_size is None:
        lines.append("note: one device is assumed, because the file does not say how many there were (--world-size)")
    text = _toml(imported, file, lines)
    if out is None:
        print(text, end="")
    else:
        replace_file(out, lambda path: path.write_text(text, encoding="utf-8"))
    for line in lines:
        print(line, file=sys.stderr)
    return 0


def _default_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", f"timm_{model}")[:MAX_IDENTIFIER_CHARACTERS]


def _toml(benchmark: "Benchmark", file: Path, lines: list[str]) -> str:
    """Return the benchmark as TOML, with the lines about its settings as comments."""
    from arch.text import printable
    from benchmarks.definition.toml_file import write_benchmark

    header = [f"Imported from {printable(file.name)} of timm's train.py.", *lines]
    return "".join(f"# {line}\n" for line in header) + "\n" + write_benchmark(benchmark, benchmark.name)
