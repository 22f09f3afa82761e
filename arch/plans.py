"""`PLANS`: named ablations from a baseline to a proposal. In a spec, the name stands for all steps of the plan.

`ablate run seresnet50d_s1` trains every step, and `ablate run seresnet50d_s1+cbam` one step more.
`budget-check seresnet50d_s1` and `timm.create_model("cifar_seresnet50d_s1")` use the architecture after the last step.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpectedAccuracy:
    """Top-1 accuracy in percent that a plan should reach, with a range: a judgment, not a result."""

    top1: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.top1:.1f}% ({self.low:.1f} to {self.high:.1f}%)"


@dataclass(frozen=True)
class NamedPlan:
    """A sequence of steps and the reasons for them."""

    spec: str
    aim: str  # one line
    expected: ExpectedAccuracy  # after the last step, with the recipe of cifar100
    evidence: str


PLANS: dict[str, NamedPlan] = {
    "seresnet50d_s1": NamedPlan(
        spec="resnet50+avg_down+last_stride+se+silu+drop_path=0.2",
        aim="the proposal for cifar100: over 82% top-1 with under 30M parameters and two hours of training",
        expected=ExpectedAccuracy(82.4, 81.6, 83.2),
        evidence="""26,236,244 parameters and 2.00 GMACs for 100 classes at 32 px.

Published results: this backbone (stride 1 in the last stage, 23.7M parameters) reaches 82.1 to 82.2% in 300 epochs
with crop and flip, and 81.91% in 200 epochs with the average-pooled shortcuts of ResNet-D (He et al. 2019,
arXiv:1812.01187). Measured separately, these two steps added 0.38 (avg_down) and 0.14 points (last_stride). SE added
0.8 to 1.2 points to ResNets with 18 to 50 layers on CIFAR-100 (Hu et al. 2018, arXiv:1709.01507, and later tables).
No published result covers SiLU and stochastic depth (Huang et al. 2016, arXiv:1603.09382) on this backbone. A network
with 26M parameters can fit all 50,000 training images, so regularization inside the architecture should help. The
accuracy after 200 epochs is an expectation, not a result, until benchmarks/results/ contains the records.

Compared with sewrn28_8d, it has 0.6 times the MACs, but writes 1.9 times the activations, so that normalization and
attention limit its speed.""",
    ),
    "pyramidnet200_d": NamedPlan(
        spec="pyramidnet200+drop_block",
        aim="the highest expected accuracy on cifar100 with under 30M parameters; over two hours on an RTX 3090",
        expected=ExpectedAccuracy(84.0, 83.2, 84.8),
        evidence="""26,709,250 parameters and 4.53 GMACs for 100 classes at 32 px.

Published results of PyramidNet-200 a240 with crop and flip: 83.55% without a regularizing layer, 84.27% with
DropBlock (Ghiasi et al. 2018, arXiv:1810.12890), and 84.84% with DropBlock and label smoothing (README of
clovaai/CutMix-PyTorch: one run each, the best of 300 epochs, batches of 64, steps of the learning rate). The recipe
of cifar100 has label smoothing, but only 200 epochs, and the accuracy of the final epoch counts. For these two
reasons, the expectation is 0.8 points lower. The rates of DropBlock (0.1 in the last stage, a quarter of it in the
one before) follow the DropBlock paper; the README does not state its own.""",
    ),
    "pyramidnet110_sd": NamedPlan(
        spec="pyramidnet110+shakedrop",
        aim="a high expected accuracy on cifar100 with ShakeDrop and basic blocks; over two hours on an RTX 3090",
        expected=ExpectedAccuracy(83.2, 82.2, 84.2),
        evidence="""28,511,307 parameters and 4.73 GMACs for 100 classes at 32 px.

Published results of PyramidNet-110 a270 with ShakeDrop (Yamada et al. 2018, arXiv:1802.02375), with crop and flip:
83.78 to 83.90% in 300 epochs. ShakeDrop gains from long schedules: a PyramidNet of 26M parameters reaches 85.5 +-
0.1% in 1,800 epochs, and 80.3% without ShakeDrop (Foret et al. 2020, arXiv:2010.01412, table 1). With 200 epochs,
less is expected than with 300, and the range is wide. The rate of 0.5 in the last block is that of the ShakeDrop
paper.""",
    ),
    "pyramidnet74_sd": NamedPlan(
        spec="pyramidnet74_a288+shakedrop",
        aim="the highest expected accuracy on cifar100 with under 30M parameters and two hours of training",
        expected=ExpectedAccuracy(82.9, 81.8, 83.8),
        evidence="""21,545,460 parameters and 3.57 GMACs for 100 classes at 32 px.

The PyramidNets above have numbers of channels such as 21, 26 and 31, which make convolutions and norms slow on a GPU in
half precision. Here, each of 36 blocks adds 8 channels, so all widths are multiples of 8. This takes three quarters of
the MACs of pyramidnet110_sd, but a third of its predicted hours on an RTX 3090.

Published results with crop and flip, 300 epochs: PyramidNet-110 a270 (28.3M parameters) reaches 81.75% (README of
jhkim89/PyramidNet), and 83.78 to 83.90% with ShakeDrop (Yamada et al. 2018, arXiv:1802.02375). With a third fewer
layers and 200 epochs, about 0.9 points less are expected. No published result covers this shape.""",
    ),
    "res2next29_se": NamedPlan(
        spec="res2next29+se",
        aim="a high expected accuracy on cifar100 without a random layer; over two hours on an RTX 3090",
        expected=ExpectedAccuracy(82.8, 82.0, 83.5),
        evidence="""24,227,540 parameters and 3.87 GMACs for 100 classes at 32 px.

Published results of Res2NeXt-29 6c x 24w x 4s with crop and flip, 300 epochs (Gao et al. 2019, arXiv:1904.01169):
83.02%, and 83.32% with SE (26.0M parameters, 1.8M more than here). With label smoothing and the cosine schedule, but
only 200 epochs, about half a point less is expected. Groups of 24 channels are slow on a GPU.""",
    ),
    "sewrn28_8d": NamedPlan(
        spec="wrn28_8+avg_down+se+drop_path=0.2",
        aim="over 82% on cifar100 in a quarter of an hour on one H100, if it reaches 29% of the peak throughput",
        expected=ExpectedAccuracy(82.3, 81.4, 83.1),
        evidence="""23,576,852 parameters and 3.36 GMACs for 100 classes at 32 px.

Published results of WRN-28-10 (36.5M parameters) with crop and flip, 200 epochs: 80.75%, and 81.15% with dropout
(median of 5, Zagoruyko & Komodakis 2016, arXiv:1605.07146); 81.2% with batches of 256 (mean of 5, README of
google-research/sam), whose product of learning rate and weight decay is that of the recipe of cifar100. With 8
instead of 10 times the width, about 0.3 points less are expected; with label smoothing, about 0.5 more. SE added 1.3
points to WRN-16-8, but nothing to WRN-28-10 in a public comparison (81.2% both). Average-pooled shortcuts (He et al.
2019, arXiv:1812.01187) added 0.38 points to ResNet-50. No published result covers stochastic depth on this network.""",
    ),
    "sewrn22_10d": NamedPlan(
        spec="wrn22_10+avg_down+se+drop_block",
        aim="over 82% on cifar100 in a quarter of an hour on one H100, if it reaches 33% of the peak throughput",
        expected=ExpectedAccuracy(82.3, 81.4, 83.2),
        evidence="""27,066,540 parameters and 3.83 GMACs for 100 classes at 32 px.

A wider network than sewrn28_8d, with fewer layers, so that matrix products take more of its time. It has DropBlock
(Ghiasi et al. 2018, arXiv:1810.12890) instead of stochastic depth, which drops whole branches and so suits deep
networks.

Published results: those of sewrn28_8d. WRN-28-10 has the same widths and one more block in each stage. DropBlock
added 0.7 points to PyramidNet-200 in 300 epochs (one run, README of clovaai/CutMix-PyTorch). No published result
covers it on this network.""",
    ),
    "sewrn22_8d": NamedPlan(
        spec="wrn22_8+avg_down+se+drop_block",
        aim="about 82% on cifar100 in a quarter of an hour on one H100, if it reaches 21% of the peak throughput",
        expected=ExpectedAccuracy(82.0, 81.0, 82.8),
        evidence="""17,336,156 parameters and 2.46 GMACs for 100 classes at 32 px.

The alternative if sewrn28_8d and sewrn22_10d are too slow: 27% fewer MACs than sewrn28_8d, for about 0.3 points of
the expected accuracy. Whether it reaches 82% is open. The evidence is that of sewrn22_10d.""",
    ),
}
