#!/usr/bin/env bash
# Measure or train on a GPU that is available for minutes, and continue the next time: see docs/gpu_sessions.md.
#
#   usage: [PYTHON=python3] benchmarks/studies/gpu.sh probe|proof|reproduce OUT SECONDS [--data DIR | --parts DIR] [OPTIONS]
#
# --help lists the options.
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m benchmarks.studies.gpu_session "$@"
