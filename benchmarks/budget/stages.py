"""Find the child modules that account for most of a model's MACs."""

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.budget.parameters import registered_parameters
from benchmarks.budget.verdict import StageCost

MAX_STAGES = 3
WRAPPER_SHARE = 0.9  # a child with this share of the FLOPs of its level is split into its own children


def costliest_stages(model: nn.Module, counter: FlopCounterMode) -> tuple[StageCost, ...]:
    """Return the children with the most MACs, in descending order.

    If one child accounts for nearly all MACs, as in a wrapper, its children are listed instead.

    Args:
        model: The counted model.
        counter: The counter that was active while the model ran.
    """
    counted = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}

    def flops(name: str, module: nn.Module) -> int:  # a list of modules is never called, so it has no count of its own
        return counted.get(name) or sum(flops(f"{name}.{child}", part) for child, part in module.named_children())

    name, module = type(model).__name__, model
    while True:
        children = {f"{name}.{child}": part for child, part in module.named_children()}
        costs = {child: flops(child, part) for child, part in children.items()}
        largest = max(costs, key=lambda child: costs[child], default="")
        if not largest or not costs[largest]:
            return ()
        is_spread = len(children) > 1 and costs[largest] < WRAPPER_SHARE * sum(costs.values())
        if is_spread or not any(children[largest].children()):
            break
        name, module = largest, children[largest]
    stages = [_stage(child, part, costs[child]) for child, part in children.items()]
    return tuple(sorted(stages, key=lambda stage: -stage.macs)[:MAX_STAGES])


def _stage(name: str, module: nn.Module, flops: int) -> StageCost:
    params = sum(parameter.numel() for parameter in registered_parameters(module).values())
    return StageCost(name.partition(".")[2], params, flops // 2)
