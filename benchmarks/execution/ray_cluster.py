"""The executor of a Ray cluster: each call is a Ray task, which runs in a worker process on its node.

Ray only schedules tasks, and reschedules tasks of lost nodes. Every node must see the same --out folder and the same
cache (XDG_CACHE_HOME), for example on a shared file system.
"""

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import Any, Self

import timm_ablate
from arch.errors import InputError
from arch.plugins import Plugin, active_plugins, restore_plugins
from benchmarks.execution.executor import Executor, Future, Session, WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Report, silent
from benchmarks.execution.signals import STOP_SIGNALS, StopRequest
from benchmarks.execution.worker_process import STOP_SECONDS

MAX_TASK_RETRIES = 20  # for a task whose node is lost; a task that fails on its own is not retried
STOP_POLL_SECONDS = 0.5  # seconds between two checks for a request to stop


class RayExecutor(Executor):
    """Calls functions on the Ray cluster that RAY_ADDRESS names or that runs on this computer.

    This is a context manager. It is connected to the cluster inside the `with` block.

    Args:
        gpus: GPUs that Ray reserves for one task; the runs per device share them. None: set by `choose_device`.
        cpus: CPUs that Ray reserves for one task.
    """

    def __init__(self, gpus: float | None = None, cpus: float = 1.0) -> None:
        self.gpus, self.cpus = gpus, cpus

    def __enter__(self) -> Self:
        """Connect to a running cluster.

        Raises:
            InputError: If Ray is not installed or the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when ray is imported
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise InputError("--executor ray needs Ray: pip install 'timm-ablate[ray]'") from error
        address, previous_handler = os.environ.get("RAY_ADDRESS", "auto"), signal.getsignal(signal.SIGTERM)
        try:
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"--executor ray cannot connect to a cluster at {address} ({reason}); see docs/clusters.md to start one"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous_handler)  # ray.init has installed its own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()

    def choose_device(self, name: str, world_size: int) -> str:
        """Return the device to train on, as `benchmarks.execution.device.resolve_device` does for one computer.

        Sets `gpus` if it is None.

        Raises:
            InputError: If no node of the cluster has the device, or the CPUs and GPUs that one task reserves.
        """
        import ray

        if not re.fullmatch(r"auto|cpu|cuda", name):
            raise InputError(f"--device {name!r} with --executor ray; valid: auto, cpu, cuda (Ray chooses the GPU)")
        total_gpus = ray.cluster_resources().get("GPU", 0)
        if name == "cuda" and not total_gpus:
            raise InputError("--device cuda: no node of the Ray cluster has a GPU; use cpu, which always works")
        device = "cuda" if total_gpus and name != "cpu" else "cpu"
        if self.gpus is None:
            self.gpus = world_size if device == "cuda" else 0
        needed = {"CPU": self.cpus, "GPU": self.gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= count for name, count in needed.items()) for node in nodes):
            raise InputError(f"no node of the Ray cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs for one run")
        return device

    @contextmanager
    def session(self, runs_per_device: int = 1) -> Iterator["RaySession"]:
        """See `Executor.session`."""
        import ray

        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": (self.gpus or 0) / runs_per_device,
            "max_retries": MAX_TASK_RETRIES,
            # By default, Ray ends its process after each task with a GPU, to free the GPU's memory. This process
            # uses none, because a worker process does the work, and restarting the fork server takes seconds.
            "max_calls": 0,
        }
        remote_function = ray.remote(**options)(timm_ablate.call)
        with StopRequest(STOP_SIGNALS) as stop:
            session = RaySession(stop, remote_function)
            try:
                yield session
            finally:
                session.cancel()
        if stop():
            raise stop.error()


class RaySession(Session):
    """Tasks of a `RayExecutor`. Ray queues tasks until the resources that they need are free."""

    def __init__(self, stop: StopRequest, remote_function: Any) -> None:
        self._stop, self._remote_function = stop, remote_function
        self._futures: dict[Any, Future] = {}  # Ray's reference to a task's result -> future

    @property
    def has_capacity(self) -> bool:
        """See `Session.has_capacity`."""
        return not self._stop()

    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        """See `Session.submit`. Progress stays on the node: `on_progress` is never called."""
        future = Future()
        on_node = "benchmarks.execution.ray_cluster:call_on_node"
        reference = self._remote_function.options(name=function).remote(
            on_node, _driver_folders(), active_plugins(), function, args, time_limit
        )
        self._futures[reference] = future
        return future

    def wait(self) -> list[Future]:
        """See `Session.wait`."""
        import ray

        while self._futures and not self._stop():
            if finished := ray.wait(list(self._futures), num_returns=1, timeout=STOP_POLL_SECONDS)[0]:
                return [self._finish(reference) for reference in finished]
        futures = [self._finish(reference) for reference in self.cancel()]
        self._futures.clear()  # the remaining tasks did not stop in time
        return [future for future in futures if not isinstance(future.outcome, Exception)]

    def cancel(self) -> list[Any]:
        """Interrupt all tasks, as Ctrl-C on their nodes would, so that they save their state and end.

        Returns:
            References to the tasks that have ended within `STOP_SECONDS`.
        """
        import ray

        references = list(self._futures)
        for reference in references:
            ray.cancel(reference)
        return ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)[0] if references else []

    def _finish(self, reference: Any) -> Future:
        import ray

        future = self._futures.pop(reference)
        try:
            future.outcome = ray.get(reference)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            future.outcome = WorkerFailed(f"Ray: {lines[0]}", str(error))
        return future


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at host:port, because Ray would then end this process."""
    host, _, port = address.rpartition(":")
    if re.fullmatch(r"[\w.-]+", host) and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _driver_folders() -> list[str]:
    """Return the folders of this process that Ray adds to the import path of its processes."""
    return [os.path.dirname(os.path.realpath(sys.argv[0])), str(Path.cwd())]


def call_on_node(
    driver_folders: list[str],
    plugins: tuple[Plugin, ...],
    function: str,
    args: tuple[Any, ...],
    time_limit: float | None,
) -> Any:
    """Call a function in a worker process on the node that Ray has chosen. Return its outcome."""
    sys.path[:] = [folder for folder in sys.path if folder not in driver_folders]  # they may hide other modules
    # Passed explicitly, because the fork server of this node has the environment of the node's first task.
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    with LocalExecutor().session() as session:
        future = session.submit(
            "benchmarks.execution.ray_cluster:call_on_devices", devices, plugins, function, args, time_limit=time_limit
        )
        session.wait()
    return future.outcome


def call_on_devices(
    report: Report, devices: str | None, plugins: tuple[Plugin, ...], function: str, args: tuple[Any, ...]
) -> Any:
    """Call `function(report, *args)` in a worker process that uses only these CUDA devices, with these plugins."""
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices  # the process has not initialized CUDA yet
    restore_plugins(plugins)
    return resolve_name(function)(report, *args)
