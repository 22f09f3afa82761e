from itertools import product
from pathlib import Path

import pandas as pd
import pytest

OPERATIONS = ("none", "skip", "conv1", "conv3")


@pytest.fixture
def nas_table(tmp_path: Path) -> Path:
    """Write a CSV file with 256 models from four choices. Accuracies of short and full training runs correlate."""
    rows = []
    for number, choices in enumerate(product(range(4), repeat=4)):
        accuracy = 60 + 2 * sum(choices) + choices[0] * choices[1]
        short_accuracy = accuracy / 2 + number * 37 % 11 / 4
        arch = "|" + "|+|".join(f"{OPERATIONS[choice]}~0" for choice in choices) + "|"
        seconds = 50 + 10 * choices[3]
        rows.append({"arch": arch, "x_test_mean": accuracy, "x_val_ep10": short_accuracy, "x_time_ep10": seconds})
    path = tmp_path / "models.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
