import ast
import json
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.sandbox.python import notebook
from benchmarks.sandbox.python.notebook import Cell, read_notebook


def write(folder: Path, content: Any) -> Path:
    path = folder / "net.ipynb"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def code(*sources: str | list[str]) -> list[dict[str, Any]]:
    return [{"cell_type": "code", "source": source, "outputs": [{"data": float("nan")}]} for source in sources]


def cell(folder: Path, source: str) -> Cell:
    return read_notebook(write(folder, {"cells": code(source)}))[0]


def test_code_cells_are_read_in_order_and_numbered_without_empty_ones(tmp_path: Path) -> None:
    markdown = {"cell_type": "markdown", "source": ["# Title"]}
    path = write(tmp_path, {"cells": [markdown, *code("x = 1", " \n", ["y = 2\n", "z = 3"])], "metadata": {}})
    first, second = read_notebook(path)
    assert (first.number, second.number) == (1, 2)
    assert second.file_name == f"{path}, cell 2"
    assert [ast.unparse(statement) for statement in second.statements] == ["y = 2", "z = 3"]


def test_format_3_is_read(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "source": ["a"], "level": 1},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"]},
    ]
    path = write(tmp_path, {"worksheets": [{"cells": cells}], "metadata": {"name": ""}, "nbformat": 3})
    assert [found.source for found in read_notebook(path)] == ["x = 1\ny = 2"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install it's\nx = 1", "pass\nx = 1"),
        ("!pip install a \\\n  b\nx = 1", "pass\n\nx = 1"),
        ("if x:\n    !ls\ny = 2", "if x:\n    pass\ny = 2"),
        ("files = !ls\nt = %timeit -o f()", "pass\npass"),
        ("?print\nprint??\nx.y?", "pass\npass\npass"),
        ("%time x = 1\nif x:\n    %time y = 2", "x = 1\nif x:\n    y = 2"),
        ("x = '''\n%foo\n!bar\nwhat?\n'''\n%bar", "x = '''\n%foo\n!bar\nwhat?\n'''\npass"),
        ("x = (7\n % 3)\n!ls", "x = (7\n % 3)\npass"),
        ("%%time\nx = 1", "\nx = 1"),
        ("# title\n%%capture out\n%%timeit\nx = 1", "# title\n\n\nx = 1"),
        ("x = 1\r\n!ls", "x = 1\npass"),
    ],
)
def test_commands_are_removed_and_lines_keep_their_numbers(source: str, expected: str, tmp_path: Path) -> None:
    found = cell(tmp_path, source)
    assert found.source == expected
    assert ast.dump(ast.Module(found.statements, [])) == ast.dump(ast.parse(expected))


@pytest.mark.parametrize("magic", ["%%bash", "%%writefile net.py", "%%html", "\n%%R -i x"])
def test_cells_in_other_languages_have_no_statements(magic: str, tmp_path: Path) -> None:
    found = cell(tmp_path, f"{magic}\nx = 1")
    assert (found.statements, found.reason) == ([], magic.strip().partition(" ")[0])


@pytest.mark.parametrize("source", ["print 'a'", "x = (\n!ls", "x = 1\0", "def f(:", "x = \\\n%"])
def test_cell_with_a_syntax_error_has_a_reason(source: str, tmp_path: Path) -> None:
    found = cell(tmp_path, source)
    assert found.statements == []
    assert "Error" in found.reason


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"cells": [{"cell_type": "co', "cut off"),
        ("", "empty"),
        ("<!DOCTYPE html><html>", "HTML page"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("[" * 100_000, "not a notebook|text file"),
        ("{'cells': []}", "not a notebook"),
        ({"cells": 3}, r"valid \w+ \(cells\)"),
        ({"cells": [{"cell_type": "code", "source": [3]}]}, r"cells\.0\.source"),
        ({"weights": []}, "without cells"),
        ({"cells": []}, "defines no model.* 0 cells"),
        ({"cells": [{"cell_type": "markdown", "source": "# Hi"}]}, "defines no model.* 1 cells"),
        ({"cells": code("x <- 1"), "metadata": {"kernelspec": {"language": "R"}}}, "in R"),
        ({"cells": code("x = 1"), "metadata": {"language_info": {"name": "julia"}}}, "in julia"),
    ],
)
def test_files_without_python_cells_are_invalid(content: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^net\.ipynb .*(?:{expected})") as raised:
        read_notebook(write(tmp_path, content))
    assert "\n" not in str(raised.value)


def test_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MAX_NOTEBOOK_BYTES", 2**20)
    with pytest.raises(InputError, match=r"2 MiB.*limit is 1 MiB"):
        read_notebook(write(tmp_path, " " * 2**21))


def test_cell_with_very_many_commands_is_left_out(tmp_path: Path) -> None:
    """Test a cell whose parsing would take minutes, because it is parsed again after each command."""
    content = cell(tmp_path, "%x\n" * 20_000)
    assert content.statements == []
    assert "commands" in content.reason
