"""Read and write benchmarks and search spaces in TOML."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.definition.benchmark import Benchmark


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, which is always UTF-8; editors on Windows may put a byte order mark before it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("the values are nested too deeply") from error


def write_benchmark(benchmark: Benchmark, name: str) -> str:
    """Return the complete definition of a benchmark as TOML, including the fields that have their default values.

    Args:
        benchmark: The benchmark.
        name: The name of the benchmark in the TOML.
    """
    values = {**asdict(benchmark), "name": name}
    sections = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [_line(key, value) for key, value in values.items() if key not in sections]
    for section, fields in sections.items():
        lines += ["", f"[{section}]", *(_line(key, value) for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    return f"# {key} is not set" if value is None else f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return (
            f"{{ {', '.join(f'{json.dumps(key)} = {_value(item)}' for key, item in value.items())} }}"
            if value
            else "{}"
        )
    return json.dumps(value)
