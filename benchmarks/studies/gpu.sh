#!/usr/bin/env bash
# What is worth doing when there is a GPU, in the time that it is given; run again, it goes on.
#
#   usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SEEDS] [SPEC...]
#
#   OUT        folder for what is left behind: summary.md, log.txt, verdicts.jsonl, records, tables, curves, report
#   DATA       folder with train/<class>/ and test/<class>/ (CIFAR-100), or that of torchvision's files
#   MINUTES    whole minutes for each of the steps 5 and 7, all plans together; default 8
#   BENCHMARK  default cifar100
#   SEEDS      default 1
#   SPEC       the ablations to train, one after the other; default: the proposal's last row, baseline+se+cbam, and then
#              the proposal's whole path. "SPEC --last" trains the last row of SPEC alone.
#
# 1 the tests marked gpu   2 what the device can do at most; speed and predicted hours of the usual nets, and the share of
# the limit that they reach   3 other people's training loops   4 trainings side by side   5 the ablations
# Where STEPS asks for them: 6 a search, whose limits are SEARCH_TIME (default 30m) and SEARCH_TRIALS (64)   7 studies:
# STUDIES, plans separated by spaces (default: known teachers and students, then ResNet-18 and 50 on parts of the images)
#
# Variables: STEPS, which of 1 to 7 to do (default "1 2 3 4 5"); STEP_SECONDS, what each command of steps 1 to 4 may take
# (default 240); PYTHON, the interpreter with the dependencies; RUNS, where records, checkpoints, weights and caches are
# kept (default OUT/runs; they must stay for a training to go on); MODELS for step 2 and PEER_MODELS for steps 3 and 4;
# TIMM_SCRIPT, train.py of a clone of pytorch-image-models; CALIBRATE=MINUTES for the device's profile in step 2, and how
# far predictions are from real epochs; IMAGES, how many of them make an epoch of steps 2 and 3; DEVICE=cpu without a GPU.
set -uo pipefail
usage="usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SEEDS] [SPEC...]"
: "${1:?$usage}" "${2:?$usage}"
mkdir -p "$1" || exit
out=$(realpath "$1") data=$(realpath "$2")
minutes=${3:-8} benchmark=${4:-cifar100} seeds=${5:-1}
shift $(($# < 5 ? $# : 5))
[ $# -gt 0 ] || set -- "seresnet50d_s1 --last" baseline+se+cbam seresnet50d_s1
python=${PYTHON:-python3} device=${DEVICE:-cuda} steps=" ${STEPS:-1 2 3 4 5} "
case $python in */*) python=$(realpath -ms "$python") ;; esac
runs=$(realpath -m "${RUNS:-$out/runs}")
script=${TIMM_SCRIPT:+$(realpath "$TIMM_SCRIPT")}
models=${MODELS:-resnet18 resnet50 resnet50+se resnet50+cbam seresnet50d_s1 resnext50 wrn16_8 wrn28_8+se timm/resnet18}
peer_models=${PEER_MODELS:-resnet8 resnet18 resnet50}
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$runs/cache}" TORCHINDUCTOR_CACHE_DIR="$runs/cache/inductor"
cd "$(dirname "$0")/.." || exit
exec > >(tee -a "$out/log.txt") 2>&1

ablate=("$python" -c 'from ablation.cli import main; raise SystemExit(main())')
search=("$python" -c 'from search.cli import main; raise SystemExit(main())')
budget_check=("$python" -c 'from benchmarks.budget.cli import main; raise SystemExit(main())')

limited() { timeout --signal=INT --kill-after=15 "${STEP_SECONDS:-240}" "$@"; }

step() { [[ $steps == *" $1 "* ]] && echo "== $1 $2"; }

summarise() {
  {
    echo "# $benchmark, $seeds seed(s)"
    for file in limits prediction peers side_by_side; do
      [ -s "$out/$file.md" ] && echo && cat "$out/$file.md"
    done
    for table in "$runs"/*.md; do
      echo
      cat "$table" 2>/dev/null || echo "No run has ended yet; the same command goes on."
    done
  } > "$out/summary.md"
}

echo "== $(date -u +%FT%TZ) $(git describe --always --dirty=+ 2>/dev/null)"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no GPU"
"$python" -c 'import torch, torchvision, timm; print("torch", torch.__version__, "torchvision", torchvision.__version__, "timm", timm.__version__)'

step 1 "tests marked gpu" && limited "$python" -m pytest -q -m gpu tests/test_gpu.py

if step 2 "limits, speed and predicted hours"; then
  for model in $models; do
    limited "${budget_check[@]}" "$model" --benchmark "$benchmark" --device "$device" --json
  done | "$python" -c '
import json, sys

text, decoder = sys.stdin.read().strip(), json.JSONDecoder()
while text:
    verdict, end = decoder.raw_decode(text)
    text = text[end:].lstrip()
    print(json.dumps(verdict))' > "$out/verdicts.jsonl"
  limited "$python" -m benchmarks.limits "$out/verdicts.jsonl" --device "$device" | tee "$out/limits.md"
  if [ "${CALIBRATE:-0}" != 0 ]; then
    export XDG_DATA_HOME="$out/data"
    "${budget_check[@]}" --calibrate --minutes "$CALIBRATE" --device "$device"
    profile=$(ls "$out"/data/timm-ablate/profiles/*.json) && cp "$profile" "$out" &&
      limited "$python" -m benchmarks.prediction_error --data "$data" --device "$device" \
        --images "${IMAGES:-50000}" --device-profile "$profile" | tee "$out/prediction.md"
    rm -rf "$out/data"
  fi
  summarise
fi

if step 3 "other people's training loops"; then
  for model in $peer_models; do
    limited "$python" -m benchmarks.peers --data "$data" --device "$device" --nets "$model" \
      --images "${IMAGES:-50000}" ${script:+--timm-script "$script"}
  done | tee "$out/peers.md"
  summarise
fi

if step 4 "trainings side by side"; then
  for model in $peer_models; do
    limited "$python" -m benchmarks.side_by_side "$model" --benchmark "$benchmark" --data "$data" --device "$device"
  done | tee "$out/side_by_side.md"
  summarise
fi

train() { # plans, in the order given, as far as the minutes go
  local end=$(($(date +%s) + 60 * minutes)) plan left
  for plan in "$@"; do
    left=$((end - $(date +%s)))
    [ $left -gt 0 ] || break
    # shellcheck disable=SC2086  # an option may follow the plan
    timeout --signal=INT --kill-after=30 "$left" "${ablate[@]}" run $plan --benchmark "$benchmark" --data "$data" \
      --seeds "$seeds" --out "$runs" --device "$device"
    "${ablate[@]}" report "${plan%% *}" --benchmark "$benchmark" --out "$runs" # the page, as far as it has come
    summarise
  done
  [ "$runs" = "$out/runs" ] || cp "$runs"/*.{jsonl,md,csv,png,pdf} "$out" 2>/dev/null
}

if step 5 "$* under $benchmark, $seeds seed(s), at most $minutes minutes"; then
  train "$@"
fi

if [[ $steps == *" 6 "* ]]; then
  echo "== 6 a search under $benchmark, within ${SEARCH_TIME:-30m}"
  resume=()
  [ -e "$runs/search.db" ] && resume=(--resume)
  "${search[@]}" --benchmark "$benchmark" --data "$data" --device "$device" --timeout "${SEARCH_TIME:-30m}" \
    --trials "${SEARCH_TRIALS:-64}" --seeds "$seeds" --out "$runs" "${resume[@]}"
  for folder in "$runs/$benchmark"-*/; do
    [ -d "$folder" ] && mkdir -p "$out/search" && cp -r "$folder" "$out/search" 2>/dev/null
  done
fi

if step 7 "studies under $benchmark, $seeds seed(s), at most $minutes minutes"; then
  read -ra studies <<< "${STUDIES:-distill:resnet56>resnet20 distill:wrn40_2>wrn16_2 distill:resnet32x4>resnet8x4 \
datasize(1/16,1/2,1):resnet18,resnet50}"
  train "${studies[@]}"
fi

summarise
echo "written: $out/summary.md"
