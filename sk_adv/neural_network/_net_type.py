"""The type of the nets, which puts skorch's AccelerateMixin beneath the adversarial training."""

from abc import ABCMeta

from skorch import NeuralNetClassifier

from sk_adv.neural_network._accelerated import AcceleratedTraining, WholePredictions
from sk_adv.neural_network._listeners import is_accelerate_mixin

_MODULE = "sk_adv.neural_network._net"


class NetType(ABCMeta):
    """The type of `AdversarialNet` and its subclasses.

    `AccelerateMixin` replaces the training step of the class that it is mixed with. So in

        class Net(AccelerateMixin, AdversarialNet): ...

    its methods would come first, and train on clean samples alone. Here the order of the bases does
    not matter: methods are looked up in the net, in `AcceleratedTraining`, in `AdversarialNet`, in
    `WholePredictions`, in `AccelerateMixin` and in skorch's own net, in this order.
    """

    def mro(cls):
        """The classes in which methods are looked up."""
        order = super().mro()
        mixin = next(filter(is_accelerate_mixin, order), None)
        if mixin is None:
            return order
        added = (AcceleratedTraining, WholePredictions, mixin)
        order = [kind for kind in order if kind not in added]
        net = next(
            kind for kind in order[1:] if type(kind) is NetType and kind.__module__ == _MODULE
        )
        order.insert(order.index(net), AcceleratedTraining)
        skorch_net = order.index(NeuralNetClassifier)
        return [*order[:skorch_net], WholePredictions, mixin, *order[skorch_net:]]
