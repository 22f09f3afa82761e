"""A stand-in for the package of a tracker: it appends its calls to FAKE_LOG, and fails or hangs at one of them."""

import json
import os
import sys
import time
from typing import Any


def note(name: str, *values: Any) -> None:
    with open(os.environ["FAKE_LOG"], "a", encoding="utf-8") as file:
        file.write(json.dumps([name, *values]) + "\n")
    if os.environ.get("FAKE_FAILURE") == name:
        raise RuntimeError(f"{name} is out of reach")
    if os.environ.get("FAKE_HANG") == name:
        time.sleep(600)


class Settings:
    def __init__(self, **settings: object) -> None:
        pass


class Summary:
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def update(self, values: dict[str, float]) -> None:
        note("summary", self.run_id, values)


class Run:
    def __init__(self, run_id: str) -> None:
        self.run_id, self.summary = run_id, Summary(run_id)

    def log(self, metrics: dict[str, float], step: int, commit: bool) -> None:
        note("log", self.run_id, step, metrics["top1"])

    def finish(self, exit_code: int = 0) -> None:
        note("finish", self.run_id, exit_code)


def init(**options: Any) -> Run:
    note("init", options["id"], options["config"]["spec"], options["mode"])
    return Run(options["id"])


if "live_process" in sys.argv[0]:  # timm imports wandb too, if it is installed
    note("import")
