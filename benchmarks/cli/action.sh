#!/usr/bin/env bash
# What the GitHub Action runs (action.yml): budget-check with what the workflow gave, the report in its step summary.
set -uo pipefail
arguments=(--benchmark "$BENCHMARK" --no-timing --json --summary "$GITHUB_STEP_SUMMARY")
[ -z "${MAX_PARAMS:-}" ] || arguments+=(--max-params "$MAX_PARAMS")
[ -z "${MAX_HOURS:-}" ] || arguments+=(--max-hours "$MAX_HOURS")
[ -z "${PROFILE:-}" ] || arguments+=(--device-profile "$PROFILE")

verdict="$RUNNER_TEMP/verdict.json"
budget-check "${arguments[@]}" -- "$MODEL" > "$verdict" 2> "$RUNNER_TEMP/complaint.txt"
code=$?
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') # until it comes again, nothing printed is a workflow command
echo "::stop-commands::$token"
cat "$verdict"
tr -d '\r' < "$RUNNER_TEMP/complaint.txt"
echo "::$token::"
if [ ! -s "$verdict" ]; then # no verdict, so no report: the complaint takes its place, as text
  { echo '### ⚠️ budget-check'; echo; tr -d '\r' < "$RUNNER_TEMP/complaint.txt" | sed 's/^/    /'; } >> "$GITHUB_STEP_SUMMARY"
fi
{ echo "exit-code=$code"; echo "verdict=$verdict"; } >> "$GITHUB_OUTPUT"
exit "$code"
