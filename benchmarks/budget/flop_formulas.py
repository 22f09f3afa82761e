"""FLOPs of operators that torch does not count, as formulas for its FLOP counter."""

from math import prod

import torch
import torchvision.ops  # noqa: F401  # defines torch.ops.torchvision

Shape = tuple[int, ...]


def _attention_flops(query: Shape, key: Shape, value: Shape, *args: object, **options: object) -> int:
    """Return the FLOPs of attention: (queries @ keys.T) @ values. Shapes are (..., tokens, channels)."""
    *heads, tokens, channels = query
    return 2 * prod(heads) * tokens * key[-2] * (channels + value[-1])


def _deformable_convolution_flops(
    images: Shape, weight: Shape, *args: object, out_shape: Shape, **options: object
) -> int:
    """Return the FLOPs of the matrix product: those of a convolution, without the interpolation of its inputs."""
    return 2 * prod(out_shape) * prod(weight[1:])


def _lstm_layer_flops(
    inputs: Shape, input_weight: Shape, hidden_weight: Shape, *args: object, **options: object
) -> int:
    """Return the FLOPs of one layer and direction of an LSTM. The inputs are (steps, images, channels) or similar."""
    *tokens, _ = inputs
    return 2 * prod(tokens) * (prod(input_weight) + prod(hidden_weight))


# Since version 2.15, torch counts the FLOPs of the attention kernel without a custom formula. Only on a CPU is an LSTM
# layer one operator; on the meta device it consists of matrix products, as other recurrent layers do everywhere.
OWN_FORMULAS = {
    torch.ops.aten.mkldnn_rnn_layer: _lstm_layer_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.torchvision.deform_conv2d: _deformable_convolution_flops,
}
