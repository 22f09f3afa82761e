"""The executor on a Ray cluster: one piece of work is one task, which runs in a child process of its own over there.

Ray is only asked for what one computer has not: where there is room, and what a lost node had. It needs every node to
see the same --out folder and the same cache (XDG_CACHE_HOME), as on a shared file system.
"""

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from types import TracebackType
from typing import Any, Self

from arch.errors import InputError
from benchmarks.execution import local
from benchmarks.execution.local import STOP_SECONDS, Outcomes, WorkerFailed
from benchmarks.execution.progress import Progress, Report
from benchmarks.execution.signals import STOP_SIGNALS, StopRequest

MAX_RETRIES = 20  # of a piece whose node is lost; work that fails by itself is not repeated
TICK = 0.5  # seconds between two looks at whether to stop


class RayExecutor:
    """`call` and `call_each` of `benchmarks.execution.local`, on the Ray cluster that RAY_ADDRESS names or that runs here.

    gpus, cpus: that Ray sets aside for one piece of work; several side by side share the GPUs of one.
    """

    def __init__(self, gpus: float | None = None, cpus: float = 1.0) -> None:
        self.gpus, self.cpus = gpus, cpus

    def __enter__(self) -> Self:
        """Connects; no Ray is started. Raises InputError in one line."""
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is imported
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise InputError("--executor ray needs Ray: pip install 'timm-ablate[ray]'") from error
        address, before = os.environ.get("RAY_ADDRESS", "auto"), signal.getsignal(signal.SIGTERM)
        try:
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"--executor ray can join no cluster at {address} ({reason}): docs/cluster.md starts one"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # which Ray has made its own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()

    def choose_device(self, name: str, world_size: int) -> str:
        """As `benchmarks.execution.device.resolve_device`, of the cluster's; sets `gpus` where nobody has. Raises InputError."""
        import ray

        if not re.fullmatch(r"auto|cpu|cuda", name):
            raise InputError(f"--device {name!r} with --executor ray: valid: auto, cpu, cuda; Ray chooses which GPU")
        there = ray.cluster_resources().get("GPU", 0)
        if name == "cuda" and not there:
            raise InputError("--device cuda: no node of the Ray cluster has a GPU to give; cpu always works")
        device = "cuda" if there and name != "cpu" else "cpu"
        if self.gpus is None:
            self.gpus = world_size if device == "cuda" else 0
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes):
            raise InputError(f"no node of the Ray cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs for one run")
        return device

    def call(self, function: str, report: Report, *args: Any) -> Any:
        """See `benchmarks.execution.local.call`."""
        [(_, outcome)] = self.call_each(function, [args], 1, lambda _, progress: report(progress))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def call_each(
        self,
        function: str,
        arguments: Sequence[tuple[Any, ...]],
        runs_per_device: int,
        report: Callable[[int, Progress], None],
        time_limit: float | None = None,
    ) -> Outcomes:
        """See `benchmarks.execution.local.call_each`. runs_per_device: how many share the GPUs set aside for one.

        Progress stays on the node.
        """
        import ray

        task = ray.remote(_work).options(
            num_cpus=self.cpus, num_gpus=(self.gpus or 0) / runs_per_device, max_retries=MAX_RETRIES, name=function
        )
        with StopRequest(STOP_SIGNALS) as stop:
            pending = {task.remote(function, args, time_limit): number for number, args in enumerate(arguments)}
            try:
                while pending and not stop():
                    for done in ray.wait(list(pending), num_returns=1, timeout=TICK)[0]:
                        yield pending.pop(done), _outcome(done)
                for done in _end_soon(list(pending)):
                    number, outcome = pending.pop(done), _outcome(done)
                    if not isinstance(outcome, Exception):  # it only did as it was told
                        yield number, outcome
                pending.clear()  # what is left has had its time
            finally:
                _end_soon(list(pending))
        if stop():
            raise stop.error()


def _end_soon(running: list[Any]) -> list[Any]:
    """Asks tasks to end, as Ctrl-C would over there, so that they keep their state. Returns those that have."""
    import ray

    for task in running:
        ray.cancel(task)
    return ray.wait(running, num_returns=len(running), timeout=STOP_SECONDS)[0] if running else []


def _reach(address: str) -> None:
    """Raises OSError where nobody listens at host:port; Ray would end this process."""
    host, _, port = address.rpartition(":")
    if re.fullmatch(r"[\w.-]+", host) and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _work(function: str, args: tuple[Any, ...], time_limit: float | None) -> Any:
    """One piece of work, on the node that Ray has chosen."""
    vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's worker, which children would import: 0.7 s each
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")  # of this task; the server of the children has that of its first
    [(_, outcome)] = local.call_each(
        "benchmarks.execution.ray_cluster:on_devices", [(devices, function, args)], 1, _ignore, time_limit
    )
    return outcome


def on_devices(report: Report, devices: str | None, function: str, args: tuple[Any, ...]) -> Any:
    """The work, in a child that has not looked for GPUs yet; `devices` are those it shall find."""
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    return resolve_name(function)(report, *args)


def _ignore(number: int, progress: Progress) -> None:
    """Nobody is looking."""


def _outcome(done: Any) -> Any:
    import ray

    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        return WorkerFailed(f"Ray: {words[0]}", str(error))
