"""The steps of a probe: what limits the speed on this GPU, and small training runs that can be resumed."""

from benchmarks.studies.gpu_session.commands import Commands
from benchmarks.studies.gpu_session.steps import Step

PEAK, LOOPS, RUNS_PER_DEVICE = "peak throughput", "training loops", "runs per device"  # names of steps
SETTINGS = "step settings"  # start of names, and of the file with the lines
HEURISTIC_MODE_B = {"TORCH_CUDNN_USE_HEURISTIC_MODE_B": "1"}


def probe_steps(commands: Commands) -> list[Step]:
    """Return the steps in the order of their importance, with estimates for a recent server GPU."""
    options = commands.options
    large, small = ("resnet50", "resnet8") if options.device == "cuda" else ("resnet20", "resnet8")
    return [
        commands.doctor(),
        commands.tests(),
        Step(PEAK, commands.module("studies.peak_throughput", "--device", options.device, "--json"), 15),
        _settings(commands, large, 130),
        *([_settings(commands, large, 25, mode_b=True)] if options.device == "cuda" else []),
        _settings(commands, small, 80),
        commands.timed_check(large, 90),
        commands.timed_check(options.plan, 45),
        _loops(commands, small),
        _runs_per_device(commands),
        commands.training(options.plan, options.seeds),
    ]


def _settings(commands: Commands, spec: str, seconds: float, mode_b: bool = False) -> Step:
    device = commands.options.device
    file = str(commands.options.results / "step_settings.jsonl")
    batch_size = "256" if device == "cuda" else "16"
    arguments = [spec, "--device", device, "--batch-size", batch_size, "--out", file]
    command = commands.module("studies.step_settings", *arguments, *(["--only", "eager"] if mode_b else []))
    name = f"{SETTINGS} {spec}{', cuDNN heuristic mode B' if mode_b else ''}"
    return Step(name, command, seconds, environment=HEURISTIC_MODE_B if mode_b else {})


def _loops(commands: Commands, small: str) -> Step:
    on_gpu = commands.options.device == "cuda"
    nets = [small, "resnet18"] if on_gpu else [small]
    sizes = ["--images", "25600"] if on_gpu else ["--images", "64", "--batch-size", "16"]
    data = ["--data", str(commands.images)] if commands.images else []
    arguments = [*data, "--device", commands.options.device, "--nets", *nets, *sizes, "--repeats", "3"]
    return Step(LOOPS, commands.module("studies.training_loops", *arguments), 100, needs_images=True)


def _runs_per_device(commands: Commands) -> Step:
    numbers = ["1", "2", "4", "8"] if commands.options.device == "cuda" else ["1", "2"]
    arguments = [commands.options.plan, *commands.common, "--numbers", *numbers]
    return Step(RUNS_PER_DEVICE, commands.module("runs.runs_per_device", *arguments), 60, needs_images=True)
