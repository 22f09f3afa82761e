#!/usr/bin/env bash
# Run the tests, measurements and training runs that need a GPU, within a given time. Run again, it resumes the training runs.
#
#   usage: benchmarks/studies/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SEEDS] [SPEC...]
#
#   OUT        folder for all outputs: summary.md, log.txt, verdicts.jsonl, records, tables, curves, report
#   DATA       folder of CIFAR-100: with train/<class>/ and test/<class>/, or with torchvision's files
#   MINUTES    time limit of each of the steps ablations and studies, for all of its plans together; default 8
#   BENCHMARK  default cifar100
#   SEEDS      seeds per row; default 1
#   SPEC       ablations to run, one after the other; default: the last row of the proposal (seresnet50d_s1),
#              baseline+se+cbam, and all rows of the proposal. "SPEC --last" trains only the last row of SPEC.
#
# Steps, chosen by the variable STEPS (default "tests throughput loops runs_per_device ablations"):
#   tests            the tests that need a GPU
#   throughput       the device's peak throughput; the speed and predicted hours of MODELS, and their share of the peak
#   loops            reference training loops, with LOOP_MODELS
#   runs_per_device  how many runs should share the device, with LOOP_MODELS
#   ablations        the ablations SPEC...
#   search           an architecture search
#   studies          the plans STUDIES
#
# Further variables:
#   STEP_SECONDS   time limit of each command of the first four steps; default 240
#   PYTHON         interpreter of an environment with the dependencies; default python3
#   RUNS           folder of records, checkpoints, weights and caches, which is needed to resume; default OUT/runs
#   MODELS         models of the step throughput
#   LOOP_MODELS    models of the steps loops and runs_per_device
#   TIMM_SCRIPT    train.py of a clone of pytorch-image-models, for the step loops
#   CALIBRATE      minutes for a profile of the device in the step throughput, followed by a comparison of predicted with
#                  measured epochs; default 0: no profile
#   IMAGES         images of an epoch in the steps throughput and loops; default 50000
#   SEARCH_TIME    time limit of the search; default 30m
#   SEARCH_TRIALS  trials of the search; default 64
#   STUDIES        plans, separated by spaces; default: published pairs of teacher and student, then ResNet-18 and
#                  ResNet-50 on fractions of the images
#   DEVICE         default cuda; cpu to try the script without a GPU
set -uo pipefail
usage="usage: benchmarks/studies/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SEEDS] [SPEC...]"
: "${1:?$usage}" "${2:?$usage}"
mkdir -p "$1" || exit
out=$(realpath "$1") data=$(realpath "$2")
minutes=${3:-8} benchmark=${4:-cifar100} seeds=${5:-1}
shift $(($# < 5 ? $# : 5))
[ $# -gt 0 ] || set -- "seresnet50d_s1 --last" baseline+se+cbam seresnet50d_s1
python=${PYTHON:-python3} device=${DEVICE:-cuda}
steps=" ${STEPS:-tests throughput loops runs_per_device ablations} "
case $python in */*) python=$(realpath -ms "$python") ;; esac
runs=$(realpath -m "${RUNS:-$out/runs}")
timm_script=${TIMM_SCRIPT:+$(realpath "$TIMM_SCRIPT")}
models=${MODELS:-resnet18 resnet50 resnet50+se resnet50+cbam seresnet50d_s1 resnext50 wrn16_8 wrn28_8+se timm/resnet18}
loop_models=${LOOP_MODELS:-resnet8 resnet18 resnet50}
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$runs/cache}" TORCHINDUCTOR_CACHE_DIR="$runs/cache/inductor"
cd "$(dirname "$0")/../.." || exit
exec > >(tee -a "$out/log.txt") 2>&1

# The commands by their modules, because the project may not be installed.
ablate=("$python" -c 'from ablation.cli import main; raise SystemExit(main())')
search=("$python" -c 'from search.cli import main; raise SystemExit(main())')
budget_check=("$python" -c 'from benchmarks.cli.budget_check import main; raise SystemExit(main())')

for step in $steps; do
  case $step in
    tests | throughput | loops | runs_per_device | ablations | search | studies) ;;
    *) echo "unknown step '$step' in STEPS: see the comment at the start of gpu.sh" && exit 2 ;;
  esac
done

# Run a command with the time limit of a step.
limited() { timeout --signal=INT --kill-after=15 "${STEP_SECONDS:-240}" "$@"; }

# Begin a step, or fail if STEPS does not contain it.
begin() { [[ $steps == *" $1 "* ]] && echo "== $1: $2"; }

# Write summary.md from the outputs so far.
summarize() {
  {
    echo "# $benchmark, $seeds seed(s)"
    for file in throughput prediction loops runs_per_device; do
      [ -s "$out/$file.md" ] && echo && cat "$out/$file.md"
    done
    for table in "$runs"/*.md; do
      echo
      cat "$table" 2>/dev/null || echo "No run has finished yet. The same command resumes the runs."
    done
  } > "$out/summary.md"
}

# Write one line per JSON document on standard input.
one_line_per_verdict() {
  "$python" -c '
import json, sys

text, decoder = sys.stdin.read().strip(), json.JSONDecoder()
while text:
    verdict, end = decoder.raw_decode(text)
    text = text[end:].lstrip()
    print(json.dumps(verdict))'
}

# Write a profile of the device, and compare predicted with measured epochs.
calibrate() {
  export XDG_DATA_HOME="$out/data"
  "${budget_check[@]}" --calibrate --minutes "$CALIBRATE" --device "$device"
  profile=$(ls "$out"/data/timm-ablate/profiles/*.json) && cp "$profile" "$out" &&
    limited "$python" -m benchmarks.studies.prediction_error --data "$data" --device "$device" \
      --images "${IMAGES:-50000}" --device-profile "$profile" | tee "$out/prediction.md"
  rm -rf "$out/data"
}

# Run plans in the given order until the minutes are over. A plan may be followed by an option.
run_plans() {
  local end=$(($(date +%s) + 60 * minutes)) plan left
  for plan in "$@"; do
    left=$((end - $(date +%s)))
    [ $left -gt 0 ] || break
    # shellcheck disable=SC2086  # splits the plan and its option
    timeout --signal=INT --kill-after=30 "$left" "${ablate[@]}" run $plan --benchmark "$benchmark" --data "$data" \
      --seeds "$seeds" --out "$runs" --device "$device"
    "${ablate[@]}" report "${plan%% *}" --benchmark "$benchmark" --out "$runs" # of the runs so far
    summarize
  done
  [ "$runs" = "$out/runs" ] || cp "$runs"/*.{jsonl,md,csv,png,pdf} "$out" 2>/dev/null
}

echo "== $(date -u +%FT%TZ) $(git describe --always --dirty=+ 2>/dev/null)"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no GPU"
"$python" -c '
import timm, torch, torchvision

print("torch", torch.__version__, "torchvision", torchvision.__version__, "timm", timm.__version__)'

begin tests "tests that need a GPU" && limited "$python" -m pytest -q -m gpu tests/test_gpu.py

if begin throughput "peak throughput, speed and predicted hours"; then
  for model in $models; do
    limited "${budget_check[@]}" "$model" --benchmark "$benchmark" --device "$device" --json
  done | one_line_per_verdict > "$out/verdicts.jsonl"
  limited "$python" -m benchmarks.studies.peak_throughput "$out/verdicts.jsonl" --device "$device" |
    tee "$out/throughput.md"
  [ "${CALIBRATE:-0}" = 0 ] || calibrate
  summarize
fi

if begin loops "reference training loops"; then
  for model in $loop_models; do
    limited "$python" -m benchmarks.studies.training_loops --data "$data" --device "$device" --nets "$model" \
      --images "${IMAGES:-50000}" ${timm_script:+--timm-script "$timm_script"}
  done | tee "$out/loops.md"
  summarize
fi

if begin runs_per_device "runs that share the device"; then
  for model in $loop_models; do
    limited "$python" -m benchmarks.runs.runs_per_device "$model" --benchmark "$benchmark" --data "$data" \
      --device "$device"
  done | tee "$out/runs_per_device.md"
  summarize
fi

if begin ablations "$* under $benchmark, $seeds seed(s), at most $minutes minutes"; then
  run_plans "$@"
fi

if begin search "a search under $benchmark, at most ${SEARCH_TIME:-30m}"; then
  resume=()
  [ -e "$runs/search.db" ] && resume=(--resume)
  "${search[@]}" --benchmark "$benchmark" --data "$data" --device "$device" --timeout "${SEARCH_TIME:-30m}" \
    --trials "${SEARCH_TRIALS:-64}" --seeds "$seeds" --out "$runs" "${resume[@]}"
  for folder in "$runs/$benchmark"-*/; do
    [ -d "$folder" ] && mkdir -p "$out/search" && cp -r "$folder" "$out/search" 2>/dev/null
  done
fi

if begin studies "plans under $benchmark, $seeds seed(s), at most $minutes minutes"; then
  read -ra studies <<< "${STUDIES:-distill:resnet56>resnet20 distill:wrn40_2>wrn16_2 distill:resnet32x4>resnet8x4 \
datasize(1/16,1/2,1):resnet18,resnet50}"
  run_plans "${studies[@]}"
fi

summarize
echo "written: $out/summary.md"
