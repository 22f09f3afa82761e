#!/usr/bin/env bash
# What is worth doing when there is a GPU, in the time that it is given; run again, it goes on.
#
#   usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SPEC] [SEEDS]
#
#   OUT        folder for all that is left behind: records, tables, curves, summary.md
#   DATA       folder with train/<class>/ and test/<class>/ (CIFAR-100), or that of torchvision's files
#   MINUTES    whole minutes for the training in step 3; default 8
#   BENCHMARK  default cifar100
#   SPEC       the ablation to train; default baseline+se+cbam
#   SEEDS      default 1
#
# 1 the tests marked gpu   2 speed and predicted hours of the usual nets   3 the ablation itself
# It needs the project installed in the python on the PATH. PYTHON, and without a GPU DEVICE=cpu, may be set.
set -uo pipefail
out=${1:?usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SPEC] [SEEDS]}
data=${2:?usage: benchmarks/gpu.sh OUT DATA [MINUTES] [BENCHMARK] [SPEC] [SEEDS]}
minutes=${3:-8} benchmark=${4:-cifar100} spec=${5:-baseline+se+cbam} seeds=${6:-1}
python=${PYTHON:-python3} device=${DEVICE:-cuda}
models=${MODELS:-resnet18 resnet50 resnet50+se resnet50+cbam resnext50 wrn16_8 wrn28_8 timm/resnet18}
mkdir -p "$out"
cd "$(dirname "$0")/.."
budget_check() { "$python" -c 'from benchmarks.budget.cli import main; raise SystemExit(main())' "$@"; }

{ nvidia-smi 2>/dev/null || echo "no GPU"; "$python" -m pip freeze 2>/dev/null | grep -iE '^(torch|torchvision|timm)='; } \
  > "$out/machine.txt"

echo "== 1 tests marked gpu"
"$python" -m pytest -q -m gpu 2>&1 | tee "$out/tests.txt" | tail -n 3

echo "== 2 speed and predicted hours"
for model in $models; do
  budget_check "$model" --benchmark "$benchmark" --device "$device" --json > "$out/verdict_${model//\//_}.json"
done
"$python" - "$out"/verdict_*.json > "$out/budget.md" <<'END'
import json, sys
from pathlib import Path

print("| model | params | MACs | img/s | predicted h |", "|:--|--:|--:|--:|--:|", sep="\n")
for text in filter(None, (Path(name).read_text() for name in sys.argv[1:])):
    verdict = json.loads(text)
    speed, hours = (verdict["throughput"] or {}).get("images_per_second"), verdict["hours"]
    timed = f"{speed:,.0f} | {hours:.3f}" if speed else "not timed | over its parameters"
    print(f"| {verdict['model']} | {verdict['cost']['params']:,} | {verdict['macs']:,} | {timed} |")
END
cat "$out/budget.md"

echo "== 3 $spec under $benchmark, $seeds seed(s), at most $minutes minutes"
timeout --signal=INT --kill-after=30 "${minutes}m" \
  "$python" -c 'from ablation.cli import main; raise SystemExit(main())' run "$spec" --benchmark "$benchmark" \
  --data "$data" --seeds "$seeds" --out "$out/runs" --device "$device" 2>&1 | tee -a "$out/train.txt"

{
  echo "# $spec under $benchmark"
  echo; echo '```'; cat "$out/machine.txt"; echo '```'; echo
  cat "$out/budget.md"; echo
  cat "$out/runs/${benchmark}_${spec}.md" 2>/dev/null || echo "no run has ended yet; the same command goes on"
} > "$out/summary.md"
cat "$out/summary.md"
