"""`ablate`: run ablation studies and analyze their records."""

from collections.abc import Callable

from ablation.commands import benchmark
from ablation.commands.data import data
from ablation.commands.datasize import datasize
from ablation.commands.distill import distill
from ablation.commands.doctor import doctor
from ablation.commands.errors import errors
from ablation.commands.export import export
from ablation.commands.finetune import finetune
from ablation.commands.list import list_names
from ablation.commands.merge import merge
from ablation.commands.new import new
from ablation.commands.power import power
from ablation.commands.preregister import preregister
from ablation.commands.redo import redo
from ablation.commands.remove import remove
from ablation.commands.report import report
from ablation.commands.reproduce import reproduce
from ablation.commands.run import run
from ablation.commands.runs import runs
from ablation.commands.show import show
from ablation.commands.table import table
from ablation.commands.verify import verify
from ablation.commands.watch import watch
from benchmarks.cli.app import SingleOutCommand, new_app, run_app
from benchmarks.cli.options import VersionOption

app = new_app("Ablation studies of image classifiers under a fixed training recipe and budget.")
COMMANDS: dict[str, Callable[..., int]] = {
    "data": data,
    "power": power,
    "preregister": preregister,
    "run": run,
    "distill": distill,
    "datasize": datasize,
    "finetune": finetune,
    "reproduce": reproduce,
    "watch": watch,
    "runs": runs,
    "table": table,
    "report": report,
    "errors": errors,
    "export": export,
    "verify": verify,
    "redo": redo,
    "remove": remove,
    "merge": merge,
    "new": new,
    "list": list_names,
    "show": show,
    "doctor": doctor,
}
READS_SEVERAL_FOLDERS = (runs, table, report, errors, export, verify)


@app.callback()
def common_options(version: VersionOption = False) -> None:
    """Ablation studies of image classifiers under a fixed training recipe and budget."""


for name, command in COMMANDS.items():
    reads_several = command in READS_SEVERAL_FOLDERS
    app.command(name, cls=None if reads_several else SingleOutCommand)(command)
app.add_typer(benchmark.app, name="benchmark")


def main(argv: list[str] | None = None) -> int:
    """Run `ablate` with the given arguments, by default those of the process, and return the exit code."""
    return run_app(app, "ablate", argv)
