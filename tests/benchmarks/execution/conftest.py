from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def _functions_importable_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
