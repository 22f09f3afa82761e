"""Read and write benchmarks and search spaces in TOML."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.definition.benchmark import Benchmark

MAX_BYTES = 1_000_000
MAX_DEPTH = 50  # levels of nested tables and lists
TOO_DEEP = "the values are nested too deeply"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, which is always UTF-8; editors on Windows may put a byte order mark before it.

    Raises:
        OSError: If the file cannot be read, is no regular file, or is larger than 1 MB.
        ValueError: If it is not TOML.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # reading a named pipe would block
        raise OSError("it is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise OSError("it is larger than 1 MB")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    _check_depth(content)
    return content


def _check_depth(content: dict[str, Any]) -> None:
    """Raise ValueError if values are nested too deeply. The parser nests keys such as a.a.a without recursion."""
    values: list[Any] = [content]
    for _ in range(MAX_DEPTH):
        values = [item for value in values for item in (value.values() if isinstance(value, dict) else value)]
        values = [item for item in values if isinstance(item, dict | list)]
    if values:
        raise ValueError(TOO_DEEP)


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
