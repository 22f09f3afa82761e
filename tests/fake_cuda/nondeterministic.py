"""Operators that have no deterministic CUDA kernel.

Reviewed by hand from the second list ("will throw a RuntimeError") in the documentation of
`torch.use_deterministic_algorithms` of torch 2.14. A test compares the names in it with `DOCUMENTED`.
"""

from typing import Any

# name in the documentation -> ATen operators. A layer "when attempting to differentiate" is its backward operator.
DOCUMENTED: dict[str, tuple[str, ...]] = {
    "torch.nn.AvgPool3d": ("avg_pool3d_backward",),
    "torch.nn.AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "torch.nn.AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "torch.nn.AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "torch.nn.MaxUnpool1d": ("max_unpool2d",),
    "torch.nn.MaxUnpool2d": ("max_unpool2d",),
    "torch.nn.MaxUnpool3d": ("max_unpool3d",),
    "torch.nn.functional.interpolate": (
        "upsample_linear1d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
        "upsample_bicubic2d_backward",
        "_upsample_bicubic2d_aa_backward",
        "upsample_trilinear3d_backward",
    ),
    "torch.nn.ReflectionPad1d": ("reflection_pad1d_backward",),
    "torch.nn.ReflectionPad2d": (),  # deterministic since torch 2.9: reflection_pad2d_backward_det_out_kernel
    "torch.nn.ReflectionPad3d": ("reflection_pad3d_backward",),
    "torch.nn.NLLLoss": ("nll_loss2d_forward",),  # the loss of (batch, classes) is deterministic
    "torch.nn.CTCLoss": ("_ctc_loss_backward", "_cudnn_ctc_loss"),
    "torch.nn.EmbeddingBag": ("_embedding_bag_dense_backward",),
    "torch.Tensor.put_": ("put_",),
    "torch.histc": ("histc",),
    "torch.bincount": ("bincount",),  # only with weights
    "torch.median": ("median",),
    "torch.nn.functional.grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "torch.Tensor.scatter_reduce": ("scatter_reduce", "scatter_reduce_"),
    "torch.Tensor.resize_": (),  # only of quantized tensors
}
OPERATORS = {operator for operators in DOCUMENTED.values() for operator in operators}


def is_nondeterministic(name: str, args: Any, kwargs: Any) -> bool:
    """Return whether an operator has no deterministic CUDA kernel.

    Args:
        name: The name of an ATen operator.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    if name == "bincount":
        return kwargs.get("weights") is not None or (len(args) > 1 and args[1] is not None)
    return name in OPERATORS
