#!/usr/bin/env bash
# What is worth doing when there is a GPU, in the time that it is given; run again, it goes on.
#
#   usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SPEC] [SEEDS]
#
#   OUT        folder for what is left behind: summary.md, log.txt, verdicts.jsonl, records, table and curves
#   DATA       folder with train/<class>/ and test/<class>/ (CIFAR-100), or that of torchvision's files
#   MINUTES    whole minutes for the training in step 3; default 8
#   BENCHMARK  default cifar100
#   SPEC       the ablation to train; default baseline+se+cbam
#   SEEDS      default 1
#
# 1 the tests marked gpu   2 speed and predicted hours of the usual nets, and with CALIBRATE=MINUTES the device's profile,
# and how far predictions are from real epochs   3 the ablation itself
#
# Variables: PYTHON, the interpreter with the dependencies; RUNS, where records, checkpoints and weights are kept
# (default OUT/runs; they must stay for a training to go on); MODELS for step 2; DEVICE=cpu where there is no GPU, and
# then IMAGES, how many of them make an epoch of step 2.
set -uo pipefail
usage="usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SPEC] [SEEDS]"
mkdir -p "${1:?$usage}" && out=$(realpath "$1")
data=$(realpath "${2:?$usage}")
minutes=${3:-8} benchmark=${4:-cifar100} spec=${5:-baseline+se+cbam} seeds=${6:-1}
python=${PYTHON:-python3} device=${DEVICE:-cuda} runs=${RUNS:-$out/runs}
models=${MODELS:-resnet18 resnet50 resnet50+se resnet50+cbam resnext50 wrn16_8 wrn28_8 timm/resnet18}
cd "$(dirname "$0")/.."
exec > >(tee -a "$out/log.txt") 2>&1

echo "== 0 $(date -u +%FT%TZ) $(git describe --always --dirty=+ 2>/dev/null)"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no GPU"
"$python" -c 'import torch, torchvision, timm; print("torch", torch.__version__, "torchvision", torchvision.__version__, "timm", timm.__version__)'

echo "== 1 tests marked gpu"
"$python" -m pytest -q -m gpu tests/test_gpu.py

echo "== 2 speed and predicted hours"
for model in $models; do
  "$python" -c 'from benchmarks.budget.cli import main; raise SystemExit(main())' \
    "$model" --benchmark "$benchmark" --device "$device" --json
done | "$python" -c '
import json, sys

text, decoder = sys.stdin.read().strip(), json.JSONDecoder()
while text:
    verdict, end = decoder.raw_decode(text)
    text = text[end:].lstrip()
    print(json.dumps(verdict))' > "$out/verdicts.jsonl"
"$python" - "$out/verdicts.jsonl" > "$out/budget.md" <<'END'
import json, sys

print("| model | params | MACs | img/s | predicted h |", "|:--|--:|--:|--:|--:|", sep="\n")
for verdict in map(json.loads, open(sys.argv[1])):
    speed, hours = verdict["throughput"], verdict["hours"]
    timed = f"{speed['training']['median']:,.0f} | {hours['predicted']:.3f}" if speed else "not timed | over its parameters"
    print(f"| {verdict['model']} | {verdict['cost']['params']:,} | {verdict['macs']:,} | {timed} |")
END
cat "$out/budget.md"

if [ "${CALIBRATE:-0}" != 0 ]; then
  export XDG_DATA_HOME="$out/data"
  "$python" -c 'from benchmarks.budget.cli import main; raise SystemExit(main())' --calibrate --minutes "$CALIBRATE" \
    --device "$device"
  profile=$(ls "$out"/data/timm-ablate/profiles/*.json) && cp "$profile" "$out" &&
    "$python" -m benchmarks.prediction_error --data "$data" --device "$device" --images "${IMAGES:-50000}" \
      --device-profile "$profile" > "$out/prediction.md"
  rm -rf "$out/data"
  cat "$out/prediction.md"
fi

echo "== 3 $spec under $benchmark, $seeds seed(s), at most $minutes minutes"
timeout --signal=INT --kill-after=30 "${minutes}m" \
  "$python" -c 'from ablation.cli import main; raise SystemExit(main())' run "$spec" --benchmark "$benchmark" \
  --data "$data" --seeds "$seeds" --out "$runs" --device "$device"
[ "$runs" = "$out/runs" ] || cp "$runs"/*.jsonl "$runs"/*.md "$runs"/*.csv "$runs"/*.png "$out" 2>/dev/null

{
  echo "# $spec under $benchmark, $seeds seed(s)"
  echo; cat "$out/budget.md"; echo
  cat "$runs/${benchmark}_${spec}.md" 2>/dev/null || echo "No run has ended yet; the same command goes on."
} > "$out/summary.md"
rm "$out/budget.md"
cat "$out/summary.md"
