"""Which kernel computes which operator: every line of the table takes its own and says why it refuses the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hashpress.core.errors import TargetError
from hashpress.targets.codegen.plan import assign_layouts
from hashpress.targets.graph.export import export
from hashpress.targets.graph.fuse import fuse
from hashpress.targets.graph.graph import Graph, Node, Tensor
from hashpress.targets.graph.import_relax import import_relax
from hashpress.targets.kernels.base import Workload
from hashpress.targets.kernels.choose import KERNELS, choose
from hashpress.targets.kernels.conv import Tile
from hashpress.targets.table import Target
from torch import nn

TARGET = Target("test", {"kind": "llvm"}, lanes=4, registers=32, machine="aarch64")


def workloads(net: nn.Module, shape=(3, 8, 8), target=TARGET) -> list[Workload]:
    graph: Graph = fuse(import_relax(export(net.eval(), shape)))
    layouts = assign_layouts(graph, target.lanes)
    return [Workload(n, tuple(layouts[read] for read in n.inputs), layouts[n.output]) for n in graph.nodes]


class Sliced(nn.Module):
    def forward(self, images):
        return images[:, :, ::2, ::2]


class Sum(nn.Module):
    def forward(self, images):
        return images + torch.relu(images)


OPERATORS = {
    "conv": (nn.Conv2d(3, 5, 3), "Conv"),
    "conv, groups of whole blocks": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=2)), "Conv"),
    "conv, groups that share blocks": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=2)), "GroupedConv"),
    "depthwise": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8)), "GroupedConv"),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)), "Dense"),
    "max pool": (nn.MaxPool2d(2), "Pool"),
    "global average": (nn.AdaptiveAvgPool2d(1), "Pool"),
    "batch norm": (nn.BatchNorm2d(3), "Pointwise"),
    "activation function": (nn.Tanh(), "Pointwise"),
    "sum": (Sum(), "Pointwise"),
    "slice": (Sliced(), "StridedCopy"),
    "zero padding": (nn.ZeroPad2d(1), "StridedCopy"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_its_kernel(name):
    net, kernel = OPERATORS[name]
    work = workloads(net)[-1]
    found = choose(work, TARGET)
    assert type(found).__name__ == kernel
    assert (found.inputs, found.output) == (work.inputs, work.output)
    for other in KERNELS[: KERNELS.index(type(found))]:
        assert other.__name__ in other.mismatch(work, TARGET)  # those before it say why not


def test_the_table_has_no_line_that_is_never_chosen():
    assert {kernel.__name__ for kernel in KERNELS} == {kernel for _, kernel in OPERATORS.values()}


def test_the_lanes_of_a_target_decide():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2))
    wide = replace(TARGET, lanes=8)
    assert type(choose(workloads(net)[-1], TARGET)).__name__ == "Conv"
    assert type(choose(workloads(net, target=wide)[-1], wide)).__name__ == "GroupedConv"


def test_the_registers_of_a_target_decide_the_tile():
    work = workloads(nn.Conv2d(3, 8, 3))[0]  # 6 x 6 pixels of two blocks
    assert choose(work, TARGET).tile == Tile(2, 6, 2)  # 24 sums of 32 registers
    assert choose(work, replace(TARGET, registers=16)).tile == Tile(1, 6, 2)  # 12 sums of 16


def test_dtypes_are_carried_and_refused_where_no_kernel_takes_them():
    (work, *_) = workloads(nn.Conv2d(3, 5, 3))
    tensors = (*work.node.inputs, work.node.output, *work.node.parameters.values())
    assert {tensor.dtype for tensor in tensors} == {work.inputs[0].dtype} == {"float32"}
    node = replace(work.node, inputs=(replace(work.node.inputs[0], dtype="int8"),))
    with pytest.raises(
        TargetError, match=r"no kernel for conv \(Conv computes float32, not int8; GroupedConv computes"
    ):
        choose(replace(work, node=node), TARGET)


def test_an_operator_without_a_kernel_is_said_in_one_line():
    tensor = Tensor("x", "float32", (1, 2, 2))
    layouts = assign_layouts(Graph(tensor, tensor, ()), 4)
    with pytest.raises(
        TargetError, match=r"attention1: no kernel for attention \(there are conv, copy, dense"
    ) as caught:
        choose(
            Workload(Node("attention", "attention1", (tensor,), tensor), (layouts[tensor],), layouts[tensor]), TARGET
        )
    assert "\n" not in str(caught.value)


class SliceOfFlat(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, 10:20]


class FlatTimesDense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(192, 192)

    def forward(self, images):
        return self.dense(images.flatten(1)) * images.flatten(1)


@pytest.mark.parametrize("net", [SliceOfFlat(), FlatTimesDense()])
def test_flattened_images_are_read_by_dense_layers_alone(net):
    with pytest.raises(TargetError, match="no kernel for"):  # blocks of channels lie otherwise in memory
        workloads(net)
