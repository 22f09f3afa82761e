"""`ablate doctor`."""

import json

from benchmarks.cli.options import DEFAULT_OUT, FAILED, DeviceOption, JsonOption, OutOption, new_console


def doctor(out: OutOption = DEFAULT_OUT, device: DeviceOption = "auto", as_json: JsonOption = False) -> int:
    """Tell what is installed, the device and the free space, and train for a moment: all that a bug report needs."""
    from benchmarks.cli.doctor import examine, to_json
    from benchmarks.execution.progress import Display

    console = new_console()
    findings = []
    with Display() as display:
        for finding in examine(out, device, display):
            findings.append(finding)
            if not as_json:
                problem = f"\n{'':12}PROBLEM: {finding.problem}" if finding.problem else ""
                console.print(
                    f"{finding.topic:12}{finding.text}{problem}", markup=False, highlight=False, soft_wrap=True
                )
    problems = sum(bool(finding.problem) for finding in findings)
    if as_json:
        print(json.dumps(to_json(findings), indent=2))
    else:
        console.print(f"{problems} problem(s)" if problems else "all is well")
    return FAILED if problems else 0
