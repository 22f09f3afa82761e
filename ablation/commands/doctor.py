"""`ablate doctor`: check the installation, and print what a bug report needs."""

import json

from arch.text import plural
from benchmarks.cli.app import EXIT_FAILED, new_console
from benchmarks.cli.options import DEFAULT_OUT, DeviceOption, JsonOption, OutOption

TOPIC_WIDTH = 12  # characters


def doctor(out: OutOption = DEFAULT_OUT, device: DeviceOption = "auto", as_json: JsonOption = False) -> int:
    """Check the installation, the device, the free space and training; print everything that a bug report needs."""
    from benchmarks.cli.doctor import examine, to_json
    from benchmarks.execution.progress import Display

    console = new_console()
    findings = []
    with Display() as display:
        for finding in examine(out, device, display):
            findings.append(finding)
            if not as_json:
                problem = f"\n{'':{TOPIC_WIDTH}}PROBLEM: {finding.problem}" if finding.problem else ""
                line = f"{finding.topic:{TOPIC_WIDTH}}{finding.text}{problem}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    num_problems = sum(bool(finding.problem) for finding in findings)
    if as_json:
        print(json.dumps(to_json(findings), indent=2))
    else:
        console.print(f"{plural(num_problems, 'problem')} found" if num_problems else "no problems found")
    return EXIT_FAILED if num_problems else 0
