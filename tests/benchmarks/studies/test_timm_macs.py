from pathlib import Path

import pandas as pd
import pytest

from benchmarks.studies.timm_macs import count, spread
from benchmarks.studies.timm_published import Counts, Line, Published, compare, read_published, summarize

HEADER = "model,infer_img_size,infer_gmacs,param_count\n"


def test_lines_are_sorted_by_size_and_have_all_published_values(tmp_path: Path) -> None:
    (tmp_path / "benchmark-infer-a.csv").write_text(f"{HEADER}large,224,5.00,9.00\nsmall,224,0.50,1.00\nnone,64,,2\n")
    (tmp_path / "benchmark-infer-b.csv").write_text(f"{HEADER}large,224,4.00,8.00\nlarge,256,6.00,9.00\n")
    published = read_published(tmp_path)
    assert list(published) == [Line("small", 224), Line("large", 224), Line("large", 256)]
    assert published[Line("large", 224)] == {Published(5.0, 9.0), Published(4.0, 8.0)}


def test_order_is_evenly_spread() -> None:
    order = spread(1000)
    assert sorted(order) == list(range(1000))
    gaps = pd.Series(sorted(order[:50])).diff().dropna()
    assert gaps.max() < 3 * 1000 / 50


@pytest.mark.parametrize(
    ("macs", "difference"), [(4_005_000_000, 0.0), (4_045_000_000, 0.01), (3_955_000_000, -0.01), (None, None)]
)
def test_differences_start_where_the_published_digits_end(macs: int | None, difference: float | None) -> None:
    counts = Counts("a", 224, params=8_004_000, macs_torch=macs)
    row = compare(counts, {Published(5.0, 9.0), Published(4.0, 8.0)})
    assert (row["gmacs"], row["mparams"], row["params_difference"]) == (4.0, 8.0, 0.0)
    assert row["macs_torch_difference"] == (None if difference is None else pytest.approx(difference, abs=1e-6))
    assert row["macs_difference"] is None  # fvcore did not count


def test_larger_count_is_compared_as_well() -> None:
    row = compare(Counts("a", 224, params=10**6, macs_torch=4 * 10**9, macs_fvcore=5 * 10**9), {Published(5.0, 1.0)})
    assert (row["macs_difference"], row["macs_fvcore_difference"]) == (0.0, 0.0)
    assert row["macs_torch_difference"] == pytest.approx(-0.199)


def test_shares_are_those_of_the_counted_lines() -> None:
    rows = pd.DataFrame({"macs_torch_difference": [0.0, -0.0005, 0.005, 0.2, None]})
    assert summarize(rows, ["macs_torch"]).splitlines()[-1] == "| torch | 4 | 25.0% | 50.0% | 75.0% | 75.0% |"


@pytest.mark.slow
def test_published_counts_of_a_small_model_are_reproduced() -> None:
    counts = count("test_vit", 160, with_fvcore=True)
    row = compare(counts, {Published(0.04, 0.37)})
    assert (counts.family, row["macs_fvcore_difference"], row["params_difference"]) == ("vision_transformer", 0.0, 0.0)
    assert sum(counts.fvcore_operators.values()) == counts.macs_fvcore
