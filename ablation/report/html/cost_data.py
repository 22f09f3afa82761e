"""Accuracy against cost in the HTML report: the cost of each row, and which rows are Pareto-optimal."""

from typing import Any

from ablation.analysis.pareto import pareto_front
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.html.table_data import known_number

COSTS = {"params": "parameters", "flops": "FLOPs for one image", "hours": "hours per run, measured"}


def cost_data(recorded: RecordedPlan, table: AblationTable) -> dict[str, Any]:
    """Return the costs and the accuracy of each row that has records, and its rows on each Pareto front, by cost."""
    points = [
        {
            "row": index,
            "n": line["n"],
            "top1": known_number(line["top1_mean"]),
            "std": known_number(line["top1_std"]),
            **{cost: known_number(line[cost]) for cost in COSTS},
        }
        for index, line in enumerate(table.frame.to_dict("records"))
        if line["n"]
    ]
    fronts = {}
    for cost in COSTS:
        optimal = pareto_front([(float(point[cost]), float(point["top1"])) for point in points])
        front = [point for point in points if (point[cost], point["top1"]) in optimal]
        fronts[cost] = [point["row"] for point in sorted(front, key=lambda point: float(point[cost]))]
    return {"axes": COSTS, "y_axis": f"{recorded.split_name} top-1 (%)", "points": points, "fronts": fronts}
