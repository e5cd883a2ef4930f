"""Patches against torch's own unfold, on every kind of layer that passes treat."""

import pytest
import torch
from hashpress.compress.observe.im2col import output_size, patches, windows
from torch import nn
from torch.nn import functional

LAYERS = {
    "plain": nn.Conv2d(3, 4, 3),
    "padded": nn.Conv2d(3, 4, (3, 5), padding=(1, 2)),
    "strided": nn.Conv2d(3, 4, 3, stride=(2, 3), padding=1),
    "dilated": nn.Conv2d(3, 4, (2, 3), dilation=(3, 2), padding=2),
    "valid": nn.Conv2d(3, 4, 3, padding="valid"),
    "1x1": nn.Conv2d(3, 4, 1, stride=2),
    "same": nn.Conv2d(3, 4, (4, 3), dilation=(1, 2), padding="same"),  # one row more below than above
}
IMAGES = torch.randn(11, 3, 9, 13, generator=torch.Generator().manual_seed(0))


def unfolded(layer):
    """Return (N, L, D) as torch lays the patches out."""
    images, padding = IMAGES, layer.padding
    if padding == "same":
        images, padding = functional.pad(images, (2, 2, 1, 2)), 0
    elif padding == "valid":
        padding = 0
    return functional.unfold(images, layer.kernel_size, layer.dilation, padding, layer.stride).transpose(1, 2)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_patches_are_those_of_unfold_and_give_the_outputs_of_the_layer(name):
    layer = LAYERS[name]
    found = patches(IMAGES, layer)
    assert torch.equal(found, unfolded(layer))
    output = functional.linear(found, layer.weight.flatten(1), layer.bias).transpose(1, 2)
    wanted = layer(IMAGES)
    assert output_size(IMAGES, layer) == wanted.shape[2:]
    torch.testing.assert_close(output.unflatten(2, tuple(wanted.shape[2:])), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_chosen_places_are_those_of_all(name):
    layer, random = LAYERS[name], torch.Generator().manual_seed(1)
    whole = unfolded(layer)
    shared = torch.randint(whole.shape[1], (4,), generator=random)
    own = torch.randint(whole.shape[1], (11, 5), generator=random)
    assert torch.equal(patches(IMAGES, layer, shared), whole[:, shared])
    assert torch.equal(patches(IMAGES, layer, own), whole.gather(1, own[..., None].expand(-1, -1, whole.shape[2])))


def test_a_group_of_the_channels_and_images_in_another_layout():
    layer = nn.Conv2d(6, 4, 3, groups=2, padding=1)
    images = torch.randn(3, 6, 7, 8).to(memory_format=torch.channels_last)
    part = images.chunk(2, dim=1)[1]
    assert torch.equal(patches(part, layer), functional.unfold(part.contiguous(), 3, padding=1).transpose(1, 2))


def test_windows_are_a_view_where_nothing_is_padded():
    assert windows(IMAGES, LAYERS["strided"]).shape == (11, 5, 5, 3, 3, 3)
    assert windows(IMAGES, LAYERS["plain"]).data_ptr() == IMAGES.data_ptr()
