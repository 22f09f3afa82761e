"""Run a notebook as a module: only its definitions if that is enough for its model, or else its cells.

1. Definitions: the imports, classes, functions and constants of all cells, in their order. A constant is an assignment
   without a call. Nothing is trained or downloaded.
2. Cells, if there is no model or it cannot be built in the first way: all cells run in their order, in one namespace.
   Of a cell that contains a loop or calls a function such as `train` or `main`, only the definitions run.

A definition that fails, such as the import of a missing package, is left out. Any other statement that fails ends its
cell, except for the definitions in it.
"""

import ast
import linecache
import math
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import TypeVar

import torch

from arch.errors import InputError
from benchmarks.budget.error_line import error_line
from benchmarks.sandbox.python.candidates import NoModelFound
from benchmarks.sandbox.python.cuda_on_cpu import needs_gpu
from benchmarks.sandbox.python.notebook import Cell, join_cells, read_notebook
from benchmarks.sandbox.python.statements import defined_names, is_definition, why_skipped

Found = TypeVar("Found")

INCOMPLETE_ERRORS = (NoModelFound, NameError, LookupError, AttributeError, ImportError)
MAX_SKIPPED_LISTED = 10
MAX_REASON_LENGTH = 120


class NotebookLoader(Loader):
    """Loads a notebook as a module, as often as its model is built.

    Attributes:
        tree: The statements of all cells.
        runs_cells: Whether the cells are run, rather than the definitions only.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.runs_cells = path, False
        self._cells = read_notebook(path)
        self.tree = join_cells(self._cells)
        self._future = [
            node for node in self.tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ]
        self._why_cells = ""
        self._start()
        for cell in self._cells:  # tracebacks and torch.jit read the code there
            lines = cell.source.splitlines(keepends=True)
            linecache.cache[cell.file_name] = (len(cell.source), None, lines, cell.file_name)

    def find(self, name: str, search: Callable[[], Found]) -> Found:
        """Return what `search` returns with the definitions only, or else with the cells.

        Args:
            name: The name of the model; "" if the user gave none.
            search: Loads the notebook and searches it.
        """
        try:
            return search()
        except INCOMPLETE_ERRORS as error:
            self.runs_cells, self._why_cells = True, str(error) if isinstance(error, InputError) else error_line(error)
            self._start()
        try:
            return search()
        except INCOMPLETE_ERRORS as error:
            raise self._explain(error, name) from error

    def describe(self) -> list[str]:
        """Return what was run and what was not, as sentences."""
        how = (
            f"the {len(self._cells)} code cells were run in order, because their definitions alone were not enough "
            f"({_shorten(self._why_cells)})"
            if self.runs_cells
            else f"of the {len(self._cells)} code cells, only imports, classes, functions and constants were run"
        )
        return [how, *filter(None, [self._describe_skipped()])]

    def exec_module(self, module: ModuleType) -> None:
        """Run the definitions or the cells in the namespace of a module.

        Raises:
            Exception: If a statement fails on the meta device, because it may run on the CPU, or for want of a GPU.
        """
        for cell in self._cells:
            for statement in self._statements(cell):
                code = ast.Module([*self._future, statement], [])
                try:
                    exec(compile(code, cell.file_name, "exec"), vars(module))
                except (Exception, SystemExit) as error:
                    is_on_meta = torch.get_default_device().type == "meta"
                    if needs_gpu(error) or (is_on_meta and not isinstance(error, ImportError | NameError)):
                        raise
                    self._leave_out(cell, statement, error)

    def _start(self) -> None:
        """Forget what failed, and decide which cells are run."""
        self._failed: set[ast.stmt] = set()
        self._errors: dict[str, BaseException] = {}  # by the name that the failed statement would have defined
        reasons = {
            cell.number: cell.reason or (self.runs_cells and why_skipped(cell.statements)) or "" for cell in self._cells
        }
        self._skipped = {number: (f"cell {number}", reason) for number, reason in reasons.items() if reason}
        self._end_lines = {  # of a cell, statements other than definitions are run only before this line
            number: math.inf if self.runs_cells and not reason else 0 for number, reason in reasons.items()
        }

    def _statements(self, cell: Cell) -> Iterator[ast.stmt]:
        for statement in cell.statements:
            if is_definition(statement):
                is_run = statement not in self._failed
            else:
                is_run = statement.lineno < self._end_lines[cell.number]
            if is_run:
                yield statement

    def _leave_out(self, cell: Cell, statement: ast.stmt, error: BaseException) -> None:
        cause = self._cause(error)
        self._errors.update(dict.fromkeys(defined_names(statement), cause))
        skipped = (f"cell {cell.number}, line {statement.lineno}", error_line(error))
        if not is_definition(statement):
            self._end_lines[cell.number], self._skipped[cell.number] = statement.lineno, skipped
            return
        self._failed.add(statement)
        if self.runs_cells or not isinstance(error, NameError):  # the name may be that of a statement that was not run
            self._skipped.setdefault(cell.number, skipped)

    def _cause(self, error: BaseException) -> BaseException:
        """Return why a name is not defined, if that is the error: the error of the statement that defines it."""
        if not isinstance(error, NameError):
            return error
        return self._errors.get(error.name or "", self._errors.get("*", error))

    def _explain(self, error: BaseException, name: str) -> BaseException:
        """Return the error to report if no model was found in the cells either."""
        if isinstance(error, NoModelFound):
            classes = {node.name for node in self.tree.body if isinstance(node, ast.ClassDef)}
            missing = (self._errors[other] for other in self._errors if other in classes)
            import_error = next((cause for cause in missing if isinstance(cause, ImportError)), None)
            cause = self._errors.get(name) if name else import_error
            return cause or InputError("; ".join(filter(None, [str(error), self._describe_skipped()])))
        cause = self._cause(error)
        if cause is error and self._skipped:
            error.add_note(self._describe_skipped())
        return cause

    def _describe_skipped(self) -> str:
        if not self._skipped:
            return ""
        skipped = [f"{place} ({_shorten(reason)})" for _, (place, reason) in sorted(self._skipped.items())]
        more = len(skipped) - MAX_SKIPPED_LISTED
        return f"skipped: {'; '.join(skipped[:MAX_SKIPPED_LISTED])}{f' and {more} more' if more > 0 else ''}"


def _shorten(reason: str) -> str:
    return shorten(reason, MAX_REASON_LENGTH, placeholder=" ...")
