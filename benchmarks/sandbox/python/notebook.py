"""Read the code cells of a Jupyter notebook. The magic and shell commands of IPython are left out of their code."""

import ast
import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from arch.errors import InputError
from benchmarks.budget.error_line import error_line
from benchmarks.sandbox.files.other_format import not_a

MAX_NOTEBOOK_BYTES = 100 * 2**20
MAX_COMMANDS = 100  # in a cell, which is parsed again after each
KEPT_CELL_MAGICS = ("capture", "prun", "time", "timeit")  # those that run the cell as Python code of the notebook
CELL_MAGIC = re.compile(r"%%(\w*)")
TIMED_STATEMENT = re.compile(r"^(\s*)%time\s+(?=\S)")
COMMAND = re.compile(r"\s*[%!?]|[^=]+=\s*[%!]|.*\?\s*$")  # %magic, !shell, ?help, x = %magic, x = !shell, help?


@dataclass(frozen=True)
class Cell:
    """A code cell that is not empty.

    Attributes:
        number: Its number among these cells, from 1, which Jupyter shows after it has run all cells of the notebook.
        file_name: The file name of its code in tracebacks, such as "/home/me/net.ipynb, cell 3".
        source: Its code, without commands of IPython; a line keeps its number.
        statements: The statements of the code.
        reason: Why it has no statements; "" if it has some.
    """

    number: int
    file_name: str
    source: str
    statements: list[ast.stmt] = field(default_factory=list)
    reason: str = ""


class _Language(BaseModel):
    name: str | None = None
    language: str | None = None


class _Metadata(BaseModel):
    language_info: _Language = _Language()
    kernelspec: _Language = _Language()


class _CellContent(BaseModel):
    cell_type: str
    source: str | list[str] = Field("", validation_alias=AliasChoices("source", "input"))  # format 3 has inputs


class _Worksheet(BaseModel):
    cells: list[_CellContent]


class _NotebookContent(BaseModel):
    cells: list[_CellContent] | None = None
    worksheets: list[_Worksheet] | None = None  # of format 3
    metadata: _Metadata = _Metadata()


def read_notebook(path: Path) -> list[Cell]:
    """Return the code cells of a notebook in nbformat 3 or 4, in their order.

    Raises:
        InputError: If the file is not a notebook, is larger than 100 MiB, is in a language other than Python, or
            contains no code.
    """
    size = path.stat().st_size
    if size > MAX_NOTEBOOK_BYTES:
        limit = MAX_NOTEBOOK_BYTES >> 20
        raise InputError(
            f"{path.name} has {size >> 20:,} MiB; the limit is {limit} MiB: clear the outputs of its cells"
        )
    content = _parse(path)
    cells = [*(content.cells or ()), *(cell for sheet in content.worksheets or () for cell in sheet.cells)]
    language = content.metadata.language_info.name or content.metadata.kernelspec.language or "python"
    if not language.lower().startswith(("python", "ipython")):
        raise InputError(f"{path.name} is a notebook in {language}; only notebooks in Python contain models of torch")
    sources = ["".join(cell.source) for cell in cells if cell.cell_type == "code"]
    code = [source for source in sources if source.strip()]
    if not code:
        raise InputError(f"{path.name} defines no model: none of its {len(cells)} cells contains code")
    return [_read_cell(number, f"{path}, cell {number}", source) for number, source in enumerate(code, 1)]


def join_cells(cells: Iterable[Cell]) -> ast.Module:
    """Return the code of all cells."""
    return ast.Module([statement for cell in cells for statement in cell.statements], [])


def _parse(path: Path) -> _NotebookContent:
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        content = _NotebookContent.model_validate_json(text)
    except ValidationError as error:
        raise _no_notebook(path, text, error.errors(include_url=False)[0]) from error
    if content.cells is None and content.worksheets is None:
        raise InputError(f"{path.name} is not a notebook: it is JSON without cells")
    return content


def _no_notebook(path: Path, text: bytes, error: Any) -> InputError:
    """Return the error for a file that is not a notebook; `error` is the first one that pydantic has found."""
    place = ".".join(map(str, error["loc"]))
    reason = f"{error['msg']}{f' ({place})' if place else ''}"
    if not text.lstrip().startswith(b"{"):
        return not_a("a notebook", path, reason)
    if "EOF" in reason:
        return InputError(f"{path.name} is a notebook that is cut off: download or copy it again ({reason})")
    return InputError(f"{path.name} is not a notebook: {reason}")


def _read_cell(number: int, file_name: str, text: str) -> Cell:
    lines = text.replace("\r\n", "\n").split("\n")
    magic = _remove_cell_magics(lines)
    if magic:
        return Cell(number, file_name, text, reason=f"%%{magic}")
    try:
        tree = _parse_without_commands(lines, file_name)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return Cell(number, file_name, text, reason=error_line(error))
    return Cell(number, file_name, "\n".join(lines), tree.body)


def _remove_cell_magics(lines: list[str]) -> str:
    """Remove the magics of a cell whose code is kept; return the name of another magic, or "" if there is none."""
    for index, line in enumerate(lines):
        magic = CELL_MAGIC.match(line)
        if magic and magic[1] not in KEPT_CELL_MAGICS:
            return magic[1] or "magic"
        if magic:
            lines[index] = ""
        elif line.strip() and not line.startswith("#"):
            break
    return ""


def _parse_without_commands(lines: list[str], file_name: str) -> ast.Module:
    """Parse the lines of a cell, and replace those commands by `pass` that are not part of Python code.

    A command causes a syntax error in its own line. A line of a string or expression that looks like a command does
    not, and stays.
    """
    for _ in range(MAX_COMMANDS):
        try:
            return ast.parse("\n".join(lines), file_name)
        except SyntaxError as error:
            index = (error.lineno or 0) - 1
            if not 0 <= index < len(lines) or not COMMAND.match(lines[index]):
                raise
            _replace_command(lines, index)
    raise ValueError(f"it contains {MAX_COMMANDS} or more commands of IPython")


def _replace_command(lines: list[str], index: int) -> None:
    line = lines[index]
    if TIMED_STATEMENT.match(line):
        lines[index] = TIMED_STATEMENT.sub(r"\1", line)
        return
    lines[index] = line[: len(line) - len(line.lstrip())] + "pass"
    while line.endswith("\\") and index + 1 < len(lines):  # the command continues in the next line
        index += 1
        line, lines[index] = lines[index], ""
