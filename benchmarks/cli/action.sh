#!/usr/bin/env bash
# Run by the GitHub Action (action.yml): budget-check with the inputs of the workflow, and its report as step summary.
set -uo pipefail
arguments=(--benchmark "$BENCHMARK" --no-timing --json --summary "$GITHUB_STEP_SUMMARY")
[ -z "${MAX_PARAMS:-}" ] || arguments+=(--max-params "$MAX_PARAMS")
[ -z "${MAX_HOURS:-}" ] || arguments+=(--max-hours "$MAX_HOURS")
[ -z "${PROFILE:-}" ] || arguments+=(--device-profile "$PROFILE")

verdict="$RUNNER_TEMP/verdict.json"
errors="$RUNNER_TEMP/errors.txt"
budget-check "${arguments[@]}" -- "$MODEL" > "$verdict" 2> "$errors"
code=$?
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') # until it is repeated, nothing in the log is a workflow command
echo "::stop-commands::$token"
cat "$verdict"
tr -d '\r' < "$errors"
echo "::$token::"
if [ ! -s "$verdict" ]; then # without a verdict there is no report: the error message replaces it, as plain text
  { echo '### ⚠️ budget-check'; echo; tr -d '\r' < "$errors" | sed 's/^/    /'; } >> "$GITHUB_STEP_SUMMARY"
fi
{ echo "exit-code=$code"; echo "verdict=$verdict"; } >> "$GITHUB_OUTPUT"
exit "$code"
