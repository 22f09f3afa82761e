"""Count MACs and activations with fvcore, in a single trace of the model."""

import logging
from collections import Counter
from typing import Any

from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from fvcore.nn.jit_handles import Handle
from torch import Tensor, nn

ACTIVATIONS = "activations"  # the key of the activations, among operators such as "conv"

logging.getLogger("fvcore").setLevel(logging.ERROR)


class FvcoreCounts(FlopCountAnalysis):  # type: ignore[misc]  # fvcore has no types
    """The counts of `FlopCountAnalysis` and `ActivationCountAnalysis`, for the whole model only.

    The model is traced when the first count is read.

    Args:
        model: The model, on the CPU.
        image: One image, (1, channels, height, width).
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__(model, image)
        for operator, activations in ActivationCountAnalysis(model, image)._op_handles.items():
            self.set_op_handle(operator, self._counting_both(operator, self._op_handles[operator], activations))
        self.unsupported_ops_warnings(False).uncalled_modules_warnings(False)

    def macs(self) -> dict[str, float]:
        """Return the MACs of each operator."""
        return {operator: count for operator, count in self.by_operator().items() if operator != ACTIVATIONS}

    def activations(self) -> int:
        """Return the number of output elements of convolutions and matrix products."""
        return int(self.by_operator()[ACTIVATIONS])

    def _counting_both(self, operator: str, macs: Handle, activations: Handle) -> Handle:
        def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
            counts: Any = macs(inputs, outputs)
            by_name = counts if isinstance(counts, Counter) else Counter({self._simplify_op_name(operator): counts})
            numbers: Any = activations(inputs, outputs)
            total = sum(numbers.values()) if isinstance(numbers, Counter) else numbers
            return by_name + Counter({ACTIVATIONS: total})

        return count

    def _get_all_ancestors(self, module_name: str) -> set[str]:
        """Attribute all operators to the whole model, because counting them for each module takes much longer."""
        return {""}
