"""Unpack images and wheels, then run a session with the installed wheels. `benchmarks/studies/gpu.sh` calls this."""

import os
import sys
import time

from arch.errors import InputError
from benchmarks.studies.gpu_session.environment import create_environment
from benchmarks.studies.gpu_session.options import parse_options
from benchmarks.studies.gpu_session.unpack import unpack


def main() -> int:
    """Run a session and return its exit code."""
    started = time.monotonic()  # continues in a restarted process
    options = parse_options(sys.argv[1:])
    try:
        if options.started is None:
            if options.parts:
                unpack(options.parts, options.work)
            python = create_environment(options.work)
            arguments = [*sys.argv[1:], "--started", str(started)]
            os.environ["XDG_CACHE_HOME"] = str(options.work / "cache")
            os.execv(python, [python, "-m", "benchmarks.studies.gpu_session", *arguments])
        from benchmarks.studies.gpu_session.session import run_session

        return run_session(options, options.started)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
