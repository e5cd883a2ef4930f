"""Values for a network that depend on a seed alone and keep activations in range, so that outputs can be written down."""

import torch


def fill(net, seed=0):
    """Give every parameter and statistic of ``net`` a value, in the order of its state dict; return the network."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(1 + 0.2 * noise.abs())
        elif value.ndim > 1:
            value.copy_(noise * (2 / value[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            value.copy_(1 + 0.1 * noise)
        else:
            value.copy_(0.1 * noise)
    return net.eval()


def images(side, count=2):
    """Return normalised images (N, 3, side, side)."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
