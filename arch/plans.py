"""`PLANS`: named ablations from a baseline to a proposal. In a spec, the name stands for all steps of the plan.

`ablate run seresnet50d_s1` trains every step, and `ablate run seresnet50d_s1+cbam` one step more.
`budget-check seresnet50d_s1` and `timm.create_model("cifar_seresnet50d_s1")` use the architecture after the last step.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedPlan:
    """A sequence of steps and the reasons for them."""

    spec: str
    aim: str  # one line
    evidence: str


PLANS: dict[str, NamedPlan] = {
    "seresnet50d_s1": NamedPlan(
        spec="resnet50+avg_down+last_stride+se+silu+drop_path=0.2",
        aim="the proposal for cifar100: over 82% top-1 with under 30M parameters and two hours of training",
        evidence="""26,236,244 parameters and 1.99 GMACs for 100 classes at 32 px.

Published results: this backbone (stride 1 in the last stage, 23.7M parameters) reaches 82.1 to 82.2% in 300 epochs
with crop and flip, and 81.91% in 200 epochs with the average-pooled shortcuts of ResNet-D (He et al. 2019,
arXiv:1812.01187). Measured separately, these two steps added 0.38 (avg_down) and 0.14 points (last_stride). SE added
0.8 to 1.2 points to ResNets with 18 to 50 layers on CIFAR-100 (Hu et al. 2018, arXiv:1709.01507, and later tables).
No published result covers SiLU and stochastic depth (Huang et al. 2016, arXiv:1603.09382) on this backbone. A network
with 26M parameters can fit all 50,000 training images, so regularization inside the architecture should help. The
accuracy after 200 epochs is an expectation, not a result, until benchmarks/results/ contains the records.

Rejected alternatives: wrn28_8+se and PyramidNets with 164 to 272 layers. The latter have the best published accuracy
(83.0 to 83.65% in 300 epochs), but both cost 1.7 to 2.3 times the MACs, in narrow layers that use only a small part of
a GPU's matrix throughput.""",
    ),
}
