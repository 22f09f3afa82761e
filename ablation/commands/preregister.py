"""`ablate preregister`: declare an ablation before its first run."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.commands.options import (
    EquivalenceOption,
    MaxSeedsOption,
    PairedOption,
    PlanArgument,
    RunOptions,
    SeedsOption,
    UntilDecidedOption,
    WorldSizeOption,
    check_margin,
    choose_pairing,
)
from ablation.commands.run_plan import check_can_decide, few_seeds_note, prepare_plan
from arch.text import plural, printable, shorten
from benchmarks.cli.app import print_line
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    BenchmarkOption,
    BudgetHoursOption,
    DataOption,
    DeviceProfileOption,
    DownloadOption,
    JsonOption,
    MaxParamsOption,
    OutOption,
    PluginsOption,
    with_options,
)

if TYPE_CHECKING:
    from ablation.plans.preregistration import DeclaredBenchmark, Preregistration
    from benchmarks.definition.benchmark import Benchmark

PUBLISH = "Publish the hash or the file before the first run: in a commit, an issue, or a registration at OSF."
MAX_PLAN_CHARACTERS = 100  # in the output


@dataclass(frozen=True)
class PreregisterOptions:
    """The options that decide what is declared."""

    benchmark: BenchmarkOption = "digits"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PATHS
    seeds: SeedsOption = None
    until_decided: UntilDecidedOption = False
    max_seeds: MaxSeedsOption = None
    out: OutOption = DEFAULT_OUT
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Device of the runs: auto, cpu, cuda, ... This computer needs no GPU to declare cuda.",
        ),
    ] = "auto"
    device_profile: DeviceProfileOption = None
    budget_hours: BudgetHoursOption = None
    max_params: MaxParamsOption = None
    world_size: WorldSizeOption = None
    paired: PairedOption = False
    equivalence: EquivalenceOption = None
    as_json: JsonOption = False

    def run_options(self) -> RunOptions:
        """Return the options of the `ablate run` command that is declared."""
        return RunOptions(
            benchmark=self.benchmark,
            data=self.data,
            download=self.download,
            plugins=self.plugins,
            seeds=self.seeds,
            until_decided=self.until_decided,
            max_seeds=self.max_seeds,
            out=self.out,
            device=self.device,
            device_profile=self.device_profile,
            budget_hours=self.budget_hours,
            max_params=self.max_params,
            world_size=self.world_size,
        )


@with_options
def preregister(plan: PlanArgument, *, options: PreregisterOptions) -> int:
    """Declare PLAN before its first run: rows, seeds, test, benchmark, budget and code version.

    The declaration and its SHA-256 hash are written to preregistrations/ in --out, and tables and reports state whether
    they match it. Use the options of the `ablate run` command that follows.
    """
    from ablation.analysis.sequential import SequentialDesign
    from ablation.analysis.statistics import ALPHA
    from ablation.plans import preregistration as declaration
    from ablation.plans.plan import parse_plan
    from ablation.plans.preregistration_files import preregistration_file, store_preregistration
    from ablation.plans.row import count_changes

    run_options = options.run_options()
    benchmark = run_options.load_benchmark(plan)
    parsed, store = prepare_plan(parse_plan(plan, benchmark), benchmark, run_options)
    test = declaration.DeclaredTest(
        choose_pairing(options.paired), check_margin(options.equivalence), ALPHA, until_decided=options.until_decided
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    declared_benchmark = _declare_benchmark(benchmark, options)
    seeds = run_options.num_seeds(benchmark)
    if options.until_decided:
        num_changes = count_changes(parsed.rows)
        check_can_decide(parsed, SequentialDesign(seeds, num_changes, test.pairing, test.equivalence))
    new = declaration.preregister(parsed, seeds, test, declared_benchmark, now)
    stored = store_preregistration(store, new)
    if not options.until_decided and (note := few_seeds_note(parsed, seeds, options.paired)):
        print(note, file=sys.stderr)
    _show(stored, preregistration_file(store.out, stored), is_new=stored is new, as_json=options.as_json)
    return 0


def _declare_benchmark(benchmark: "Benchmark", options: PreregisterOptions) -> "DeclaredBenchmark":
    from ablation.plans.preregistration import declare_benchmark
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    with Display() as display:
        images = prepare_dataset(benchmark.data, options.data, options.download, display)
    world_size = benchmark.recipe.world_size
    device = resolve_device(options.device, world_size) if options.device == "auto" else options.device
    return declare_benchmark(benchmark, images.fingerprint, device.partition(":")[0])


def _show(stored: "Preregistration", file: Path, is_new: bool, as_json: bool) -> None:
    if stored.code.has_uncommitted_changes:
        print(
            f"warning: commit {stored.code.commit} has uncommitted changes and does not identify the code: commit "
            "them and preregister again",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps({"file": str(file), "is_new": is_new, **stored.to_json()}, indent=2))
        return
    benchmark, test = stored.benchmark, stored.test
    margin = "" if test.equivalence is None else f", equivalence margin {test.equivalence:g} points"
    seeds = f"{'up to ' if test.until_decided else ''}{plural(stored.seeds, 'seed')}"
    status = "preregistered" if is_new else "already preregistered"
    lines = [
        f"{status} {stored.date}: {shorten(stored.plan, MAX_PLAN_CHARACTERS)}, "
        f"{plural(len(stored.rows), 'row')}, {seeds}, {test.pairing} test{margin}, "
        f"{benchmark.name} {benchmark.id} ({benchmark.definition['device']})",
        f"file: {file}",
        f"sha256: {stored.sha256}",
        PUBLISH,
    ]
    for line in lines:
        print_line(printable(line))
