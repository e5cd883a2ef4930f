"""Encoders: images (N, C, H, W), vectors (N, size) or token ids (N, length) to features (N, D), one family a file."""

from __future__ import annotations

from ...core.inputs import TextInput, VectorInput
from .alexnet import AlexNet
from .cifar_resnet import resnet20, resnet32, resnet44, resnet56
from .inverted_residual import efficientnet_b0, mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from .lenet import LeNet5, LeNet300
from .mlp import Mlp
from .resnet import resnet18, resnet34, resnet50
from .smallconv import SmallConv
from .spec import CIFAR, IMAGENET, MNIST, EncoderSpec
from .textcnn import TextCnn
from .vgg import VGG16

ENCODERS: dict[str, EncoderSpec] = {
    "lenet300": EncoderSpec("lenet300", LeNet300, MNIST, "LeNet-300-100, LeCun et al. 1998"),
    "lenet5": EncoderSpec("lenet5", LeNet5, MNIST, "LeNet-5 as in Caffe (20-50-500), LeCun et al. 1998"),
    "smallconv": EncoderSpec("smallconv", SmallConv, CIFAR, "the 32-32-64 net of DSH, Liu et al. 2016"),
    "resnet20": EncoderSpec("resnet20", resnet20, CIFAR, "ResNet-20 with option A shortcuts, arXiv:1512.03385"),
    "resnet32": EncoderSpec("resnet32", resnet32, CIFAR, "ResNet-32 with option A shortcuts, arXiv:1512.03385"),
    "resnet44": EncoderSpec("resnet44", resnet44, CIFAR, "ResNet-44 with option A shortcuts, arXiv:1512.03385"),
    "resnet56": EncoderSpec("resnet56", resnet56, CIFAR, "ResNet-56 with option A shortcuts, arXiv:1512.03385"),
    "alexnet": EncoderSpec("alexnet", AlexNet, IMAGENET, "AlexNet as in torchvision, arXiv:1404.5997"),
    "vgg16": EncoderSpec("vgg16", VGG16, IMAGENET, "VGG-16 as in torchvision, arXiv:1409.1556"),
    "resnet18": EncoderSpec("resnet18", resnet18, IMAGENET, "ResNet-18 as in torchvision, arXiv:1512.03385"),
    "resnet34": EncoderSpec("resnet34", resnet34, IMAGENET, "ResNet-34 as in torchvision, arXiv:1512.03385"),
    "resnet50": EncoderSpec("resnet50", resnet50, IMAGENET, "ResNet-50 as in torchvision, arXiv:1512.03385"),
    "mobilenet_v2": EncoderSpec(
        "mobilenet_v2", mobilenet_v2, IMAGENET, "MobileNetV2 as in torchvision, arXiv:1801.04381"
    ),
    "mobilenet_v3_small": EncoderSpec(
        "mobilenet_v3_small", mobilenet_v3_small, IMAGENET, "MobileNetV3-Small as in torchvision, arXiv:1905.02244"
    ),
    "mobilenet_v3_large": EncoderSpec(
        "mobilenet_v3_large", mobilenet_v3_large, IMAGENET, "MobileNetV3-Large as in torchvision, arXiv:1905.02244"
    ),
    "efficientnet_b0": EncoderSpec(
        "efficientnet_b0", efficientnet_b0, IMAGENET, "EfficientNet-B0 as in torchvision, arXiv:1905.11946"
    ),
    "mlp": EncoderSpec("mlp", Mlp, None, "dense layers for vectors, 512-256", takes=(VectorInput,)),
    "textcnn": EncoderSpec("textcnn", TextCnn, None, "text CNN, Kim 2014, arXiv:1408.5882", takes=(TextInput,)),
}
