from pathlib import Path

import pytest

from arch.errors import InputError
from search.options import SearchOptions, parse_duration


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("1.5h", 5400), ("2d", 172_800)])
def test_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "0s", "90", "m", "-1h", "1w"])
def test_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=rf"--timeout '{text}'.* 90s, 45m, 3h or 1d"):
        SearchOptions(timeout=text)


def test_time_limit_must_be_positive() -> None:
    with pytest.raises(InputError, match="--time-limit must be above 0"):
        SearchOptions(time_limit=0.0)


def test_evolution_supports_only_one_objective() -> None:
    SearchOptions(sampler="evolution")
    with pytest.raises(InputError, match=r"--sampler evolution supports only one objective"):
        SearchOptions(sampler="evolution", objective="pareto")


def test_times_are_converted_to_seconds() -> None:
    options = SearchOptions(timeout="45m", time_limit=0.5)
    assert (options.timeout_seconds, options.time_limit_seconds) == (2700, 1800)
    assert (SearchOptions().timeout_seconds, SearchOptions().time_limit_seconds) == (None, None)


def test_study_is_stored_in_the_output_folder_by_default(tmp_path: Path) -> None:
    assert SearchOptions(out=tmp_path).storage_location == str(tmp_path / "search.journal")
    assert SearchOptions(storage="postgresql://host/db").storage_location == "postgresql://host/db"
    assert SearchOptions(storage="my.journal").storage_location == "my.journal"


def test_benchmark_options_can_be_passed_to_ablate(tmp_path: Path) -> None:
    assert SearchOptions(benchmark="digits").benchmark_options == "--benchmark digits"
    options = SearchOptions(benchmark="own.toml", data=tmp_path)
    assert options.benchmark_options == f"--benchmark own.toml --data {tmp_path}"
    limited = SearchOptions(budget_hours=0.1, max_params="500K").benchmark_options
    assert limited == "--benchmark digits --budget-hours 0.1 --max-params 500K"
    assert SearchOptions(device_profile="rtx3090").benchmark_options == "--benchmark digits --device-profile rtx3090"
