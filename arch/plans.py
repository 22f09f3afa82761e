"""`PLANS`: whole ablations under a name, from a baseline to a proposal. In a spec the name stands for its steps.

`ablate run seresnet50d_s1` trains every step of it, and `seresnet50d_s1+cbam` one more; `budget-check seresnet50d_s1`
and `timm.create_model("cifar_seresnet50d_s1")` take the net that the last step ends in.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedPlan:
    """A sequence of steps and why each of them is taken."""

    spec: str
    aim: str  # one line
    evidence: str


PLANS: dict[str, NamedPlan] = {
    "seresnet50d_s1": NamedPlan(
        spec="resnet50+avg_down+last_stride+se+silu+drop_path=0.2",
        aim="the proposal for cifar100: more than 82% under 30M parameters and two hours",
        evidence="""26,236,244 parameters and 1.99 GMACs for 100 classes at 32 px.

Published: this trunk (stride 1 in the last stage, 23.7M) reaches 82.1 to 82.2% in 300 epochs with crop and flip, and
81.91% in 200 epochs with ResNet-D's average-pooled shortcuts (He et al. 2019, arXiv:1812.01187), each of which was
measured alone: +0.38 (avg_down) and +0.14 (last_stride). SE added 0.8 to 1.2 points to ResNets of 18 to 50 layers on
CIFAR-100 (Hu et al. 2018, arXiv:1709.01507, and later tables). SiLU and stochastic depth (Huang et al. 2016,
arXiv:1603.09382) are arguments: a net of 26M parameters fits its 50,000 training images wholly, so what regularises
without changing the recipe should pay. The total for 200 epochs is an expectation and not a result until the records
under benchmarks/results/ say so.

Not chosen: wrn28_8+se and PyramidNets of 164 to 272 layers, of which the latter have the best published numbers (83.0
to 83.65 in 300 epochs), cost 1.7 to 2.3 times the MACs, in thin layers that run far below the matrix rate.""",
    ),
}
