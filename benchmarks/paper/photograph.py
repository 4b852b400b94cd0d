"""F1: an invisible change makes a network predict another class. Figure 1 of the paper."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import numpy as np
import torch
from _lab.pretrained import SIDE, Pretrained, pretrained
from _lab.rows import picture, row
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import load_sample_image

from sk_adv.attacks import fgsm, pgd, sign_noise

EPSILON = 0.007
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
# Columns of the pictures; the row's figures have the same names.
PHOTOGRAPH, SIGN, COPY, PNG = "photograph", "sign of the gradient", "copy", "copy as PNG"
BIT, STRONGER, CONTROL = "copy at ε = 1/255", "PGD", "random signs"


@dataclass
class Subject:
    """A photograph, and the copies of it against one network.

    Attributes
    ----------
    name : str
        The name of a sample image of scikit-learn.
    network : Pretrained
    pgd_params : dict
        Arguments of the stronger attack.
    """

    name: str
    network: Pretrained
    pgd_params: dict

    @cached_property
    def photograph(self) -> np.ndarray:
        """Pixels in [0, 1], of shape (1, 3, 224, 224), as the network takes them."""
        return square(load_sample_image(self.name))

    @cached_property
    def label(self) -> np.ndarray:
        """The network's own prediction for the photograph: the true label is not known."""
        return np.array([self.says(self.photograph)[0]])

    @cached_property
    def sign(self) -> np.ndarray:
        """sign(∇ₓ J): the change by a step of length 1 without bounds."""
        step = fgsm(self.network.module, self.photograph, self.label, 1.0)
        return np.rint(step - self.photograph)

    @cached_property
    def panels(self) -> dict[str, np.ndarray]:
        """The panels of the picture, by the names of their columns."""
        copy = self._attacked(fgsm, EPSILON)
        return {
            PHOTOGRAPH: self.photograph,
            SIGN: as_picture(self.sign),
            COPY: copy,
            PNG: read_png(written_png(copy)),
        }

    @cached_property
    def copies(self) -> dict[str, np.ndarray]:
        """The inputs of the network, by the names of the row's figures."""
        return self.panels | {
            BIT: self._attacked(fgsm, 1 / 255),
            STRONGER: self._attacked(pgd, EPSILON, **self.pgd_params),
            CONTROL: self._attacked(sign_noise, EPSILON, random_state=0),
        }

    def _attacked(self, attack, epsilon, **params):
        module = self.network.module
        return attack(module, self.photograph, self.label, epsilon, bounds=(0, 1), **params)

    def says(self, pixels: np.ndarray) -> tuple[int, str, float]:
        """The predicted class, its name, and its probability."""
        with torch.no_grad():
            probabilities = self.network.module(torch.as_tensor(pixels)).softmax(1)[0]
        index = int(probabilities.argmax())
        return index, self.network.class_name(index), float(probabilities[index])


def square(image: np.ndarray) -> np.ndarray:
    """The middle of an image of 8 bits, scaled to the network's size, with 8 bits."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(image).crop((left, top, left + side, top + side))
    return _as_batch(middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def as_picture(sign: np.ndarray) -> np.ndarray:
    """An image of signs: -1, 0 and 1 become no, half and full colour."""
    return (sign + 1) / 2


def written_png(pixels: np.ndarray) -> bytes:
    """A PNG file of 8 bits: each number is rounded to the nearest of 256 levels."""
    file = BytesIO()
    levels = np.rint(255 * pixels[0].transpose(1, 2, 0)).astype(np.uint8)
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def read_png(file: bytes) -> np.ndarray:
    """Pixels in [0, 1], as the network takes them."""
    return _as_batch(Image.open(BytesIO(file)))


def _as_batch(image):
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[np.newaxis] / 255


def subjects(lab) -> list[Subject]:
    """Both photographs; the network is recorded among the settings."""
    network = pretrained(lab.photo_model)
    lab.used[lab.photo_model] = {
        "model": network.description,
        "digits": " and ".join(PHOTOGRAPHS),
    }
    return [Subject(name, network, lab.pgd_params) for name in PHOTOGRAPHS]


def judge(ours):
    """Do the classes change under the attack, and not under random signs of the same size?"""
    attacked = min(ours[f"classes that change: {name}"] for name in (COPY, PNG))
    if attacked < 1 or ours[f"classes that change: {CONTROL}"] > 0:
        return "differs: not all classes change, or random signs change some"
    shown = f"{PHOTOGRAPHS[0]}, {COPY}: "
    (sure,) = (share for name, share in ours.items() if name.startswith(shown))
    return (
        "agrees: the classes change, also in 8 bits, and under random signs they stay; confidence "
        f"in the copy of {PHOTOGRAPHS[0]} is {100 * sure:.0f} %, in the paper's copy 99 %"
    )


@row(
    "F1",
    "figure 1: photographs and their FGSM copies, with the class that a network trained on "
    "ImageNet sees and its confidence, ε = 0.007 within [0, 1]",
    paper="“panda” 57.7 %, its copy “gibbon” 99.3 %",
    verdict=judge,
    n_seeds=1,
    epsilon=EPSILON,
    on_digits=False,
    note="The paper shows a panda to GoogLeNet. The settings below name the network here; where "
    "that is EfficientNet-Lite0, GoogLeNet was not run: `python -m sk_adv reproduce --only F1 "
    "--model googlenet` needs torchvision and a connection, and has torchvision's weights, not the "
    "paper's. The photographs come with scikit-learn; their middle is scaled to 224 × 224 pixels. "
    "No true label is known, so the class attacked is the one that the network itself gives the "
    "photograph. Two photographs show that there are such copies, not how often. The sign of the "
    "gradient is shown to the network as a picture, -1 as black and 1 as full colour. *Copy as "
    "PNG* is the copy saved with 8 bits for each colour and read again. The photograph has 8 bits, "
    "and 0.007 is 1.8 of their 255 steps: the change is rounded to 2 steps, or 0.0078. In the "
    "paper 0.007 stands for one step, in the numbers that its network is fed; on pixels in [0, 1] "
    "one step is 1/255, or 0.0039, and a copy at this ε loses nothing as PNG. Random signs are the "
    "control. FGSM takes a single step, so that its figures say nothing of robustness: the many "
    "steps of PGD, within the same ε, end at a far higher confidence.",
)
def photograph(lab, seed):
    """Confidence in the predicted class of each copy; the names of the figures hold the class."""
    found, changes = {}, {}
    for subject in subjects(lab):
        for name, pixels in subject.copies.items():
            index, seen, confidence = subject.says(pixels)
            found[f"{subject.name}, {name}: {seen}"] = confidence
            changes.setdefault(name, []).append(index != subject.label[0])
    for name in (COPY, PNG, BIT, STRONGER, CONTROL):
        found[f"classes that change: {name}"] = float(np.mean(changes[name]))
    return found


@picture(
    "F1",
    "figure",
    "A photograph, the sign of the gradient, and the copy, with what the network sees on each and "
    "its confidence. ε = 0.007.",
)
def draw(lab):
    """The paper's figure: photograph + sign = copy."""
    subject = subjects(lab)[0]
    figure, axes = plt.subplots(1, 3, figsize=(6.2, 2.25), layout="compressed")
    figure.get_layout_engine().set(wspace=0.15)
    for ax, name in zip(axes, (PHOTOGRAPH, SIGN, COPY), strict=True):
        _show(ax, subject, name)
        ax.set_title(f"{EPSILON} × {name}" if name == SIGN else name, size="medium")
    for ax, sign in zip(axes[1:], "+=", strict=True):
        beside = ax.text(-0.09, 0.5, sign, transform=ax.transAxes, ha="center", size="x-large")
        beside.set_in_layout(False)
    return figure


@picture(
    "F1",
    "png",
    "The two photographs, the sign of the gradient, the copy, and the copy saved as PNG, with 8 "
    "bits for each colour, and read again. ε = 0.007.",
)
def draw_png(lab):
    """One photograph per row."""
    figure, axes = plt.subplots(2, 4, figsize=(7.5, 4.5), layout="constrained")
    for line, subject in zip(axes, subjects(lab), strict=True):
        for ax, name in zip(line, (PHOTOGRAPH, SIGN, COPY, PNG), strict=True):
            _show(ax, subject, name)
    for ax, name in zip(axes[0], (PHOTOGRAPH, SIGN, COPY, PNG), strict=True):
        ax.set_title(name, size="medium")
    return figure


def _show(ax, subject, name):
    _, seen, confidence = subject.says(subject.panels[name])
    # The sign has three values: do not interpolate between pixels.
    interpolation = "nearest" if name == SIGN else None
    ax.imshow(subject.panels[name][0].transpose(1, 2, 0), interpolation=interpolation)
    ax.set(xticks=[], yticks=[], xlabel=f"“{seen}”\n{100 * confidence:.1f} %")
