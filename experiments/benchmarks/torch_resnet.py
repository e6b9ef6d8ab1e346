"""A ResNet-18 in plain PyTorch, and the influence of its channels by autograd."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions with batch normalisation around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        """Make the layers; the shortcut is a convolution where shapes change."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        h = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


def resnet18() -> nn.Module:
    """Make a ResNet-18 with one logit, 11.2 million parameters (He et al. 2016)."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1))


def influence(module: nn.Module, names: list[str], images: Tensor, a: Tensor) -> dict[str, Tensor]:
    """Compute the mean over rows of the derivative of the statistical parity difference, by a shift of every channel.

    Args:
        module: the network, in evaluation mode, with one logit per row.
        names: the layers.
        images: (n, 3, height, width).
        a: (n,), true in the privileged group.

    Returns:
        One number per channel of each layer.
    """
    layers, shifts, handles = dict(module.named_modules()), {}, []
    for name in names:

        def shifted(layer, inputs, output, name=name):
            shifts[name] = torch.zeros(output.shape[1], requires_grad=True)
            return output + shifts[name].reshape(1, -1, *[1] * (output.ndim - 2))

        handles.append(layers[name].register_forward_hook(shifted))
    scores = torch.sigmoid(module(images)[:, 0])
    gap = scores[~a].mean() - scores[a].mean()
    values = torch.autograd.grad(gap, list(shifts.values()))
    for handle in handles:
        handle.remove()
    return {name: value / len(images) for name, value in zip(shifts, values, strict=True)}
