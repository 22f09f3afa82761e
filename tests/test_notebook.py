"""Execute the notebook of the Python interface."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "python.ipynb"


def outputs(notebook: Any) -> list[str]:
    """Return the text of each result that the notebook displays."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    results = [output for cell in cells for output in cell.outputs if output.output_type == "execute_result"]
    return [result.data["text/plain"] for result in results]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute(cwd=str(tmp_path))
    _, frame, report, figures, accuracies, params, budget, front = outputs(notebook)
    assert "+se" in frame
    assert "_report.pdf" in report
    assert "table.png" in figures
    assert len(accuracies.split(",")) == 2
    assert params == "[77754, 650]"
    assert budget == "(True, 11310244, 556793856)"
    assert "params" in front
    assert list(tmp_path.glob("runs/*_report.pdf"))
