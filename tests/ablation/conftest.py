"""Fixtures for the ablation tests: a small benchmark file, a trained study, and plausible records."""

import io
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.analysis.table_formats import AblationTable
from ablation.cli import main
from ablation.plans.plan import parse_plan
from ablation.plans.row import Row
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

DIGITS, BENCHMARK_ID = BENCHMARKS["digits"], "0123456789ab"
TINY = """
name = "tiny"
baseline = "resnet8"

[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 20
test_per_class = 10

[recipe]
epochs = 3
batch_size = 50
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0

[budget]
max_params = 200_000
max_hours = 0.5
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a benchmark file with 200 training images of digits and 3 epochs."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def trained(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> CompletedProcess[str]:
    """Train the rows of baseline+se on `tiny` with seeds 0 and 1, and return the completed command with its output.

    The last argument of the command is the output folder. Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(TINY)
    options = ["--benchmark", str(folder / "tiny.toml"), "--device", "cpu", "--runs-per-device", "1"]
    arguments = ["run", "baseline+se", "--seeds", "2", *options, "--out", str(folder / "out")]
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(arguments)
    assert code == 0, stderr.getvalue()
    return CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def trained_copy(trained: CompletedProcess[str], tmp_path: Path) -> Path:
    """Return a copy of the output folder of `trained`."""
    return Path(shutil.copytree(trained.args[-1], tmp_path / "out"))


@pytest.fixture(scope="session")
def make_record() -> Callable[..., RunRecord]:
    """Return a function that builds a plausible record; keyword arguments replace fields."""

    def make(spec: str = "baseline", seed: int = 0, top1: float = 50.0, **fields: object) -> RunRecord:
        row = parse_plan(spec, DIGITS).rows[-1]
        epoch = {"epoch": 1, "train_loss": 2.0, "train_top1": 20.0, "loss": 2.0, "top1": top1 - 10, "top5": 90.0}
        record = RunRecord(
            spec=row.spec,
            key=row.key,
            seed=seed,
            benchmark="digits",
            benchmark_id=BENCHMARK_ID,
            definition={"recipe": {"epochs": 2}, "device": "cpu"},
            baseline="resnet8",
            plan="baseline+se",
            params=77_754,
            macs=774_500,
            predicted_hours=0.01,
            hours=0.02,
            images_per_second=1000.0,
            images_seen=2560,
            top1=top1,
            top5=95.0,
            per_class={"0": top1},
            curve=[epoch, {**epoch, "epoch": 2, "top1": top1}],
            device="cpu",
            versions={"torch": "2.10.0"},
            commit="",
            finished="2026-01-01T00:00:00+00:00",
        )
        return replace(record, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_recorded() -> Callable[..., RecordedPlan]:
    """Return a function that builds a recorded plan of the digits benchmark; keyword arguments replace fields."""

    def make(plan: str, records: Sequence[RunRecord] = (), **fields: object) -> RecordedPlan:
        recorded = RecordedPlan(parse_plan(plan, DIGITS), DIGITS, BENCHMARK_ID, records, [], Path("runs"))
        return replace(recorded, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_table_of(
    make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan]
) -> Callable[..., AblationTable]:
    """Return a function that makes a table whose rows have these labels; each is compared with the first row."""
    specs = ["baseline", *(f"baseline+{part}" for part in ("se", "cbam", "eca", "silu", "gelu", "width", "depth", "gem",
                                                           "mish", "elu"))]  # fmt: skip

    def make(labels: Sequence[str]) -> AblationTable:
        configs = [make_recorded(spec).rows[-1].config for spec in specs[: len(labels)]]
        rows = tuple(
            Row(label, config, ((0, -1),) if index else ())
            for index, (label, config) in enumerate(zip(labels, configs, strict=True))
        )
        records = [
            make_record(spec, seed, 50.0 + index + 0.1 * seed)
            for index, spec in enumerate(specs[: len(labels)])
            for seed in range(6)
        ]
        recorded = make_recorded("baseline", records)
        return make_table(replace(recorded, plan=replace(recorded.plan, rows=rows)))

    return make


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit power laws to few bootstrap resamples, for speed."""
    monkeypatch.setattr("ablation.analysis.power_law_fit.NUM_RESAMPLES", 199)
