"""The training step of a maxout network in bfloat16 on the CPU, without autograd."""

import torch
from skorch.dataset import unpack_data

from sk_adv._randomness import generator_on
from sk_adv.differentiable._networks import overrides
from sk_adv.neural_network._blockwise_optimizer import BlockwiseOptimizer, is_blockwise
from sk_adv.neural_network._copies import fgsm_copies
from sk_adv.neural_network._layers import Maxout, MaxoutNet, limit_norms
from sk_adv.neural_network._parts import device_of


def may_be_explicit(net):
    """Whether `ExplicitStep` can train a net: an unmodified `MaxoutNet`, in bfloat16 on the CPU."""
    module = getattr(net, "module_", None)
    return (
        net.precision == "bfloat16"
        and (net.robust_loss == "adversarial" or net.alpha == 1)
        and device_of(net).type == "cpu"
        and type(module) is MaxoutNet
        and all(type(layer) is Maxout for layer in module.layers)
        and type(module.output) is torch.nn.Linear
        and not any(_is_extended(part) for part in module.modules())
        and not any(overrides(net, name) for name in ("infer", "train_step", "train_step_single"))
        and is_blockwise(net.optimizer_)
        and all(
            parameter.requires_grad
            and parameter.dtype == torch.float32
            and parameter.is_contiguous()
            and any(parameter is other for other in _parameters(net.optimizer_))
            for parameter in module.parameters()
        )
    )


def _is_extended(module):
    """Whether a module has forward or backward hooks, which `ExplicitStep` would not call."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name, None) for name in hooks)


def _parameters(optimizer):
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


class ExplicitStep:
    """The training step of a maxout network with an explicit gradient.

    Let z_k = W_k x + b_k be the pieces of a layer, h = max_k z_k its output and m the factors of
    dropout, so that the next layer receives m ∘ h. If g is the gradient on m ∘ h, then

        δ_k = [k is the largest piece] m ∘ g     is the gradient on the pieces,
        Σ δ_k xᵀ                                 the gradient on W_k, summed over the samples,
        Σ_k W_kᵀ δ_k                             the gradient on x.

    The matrix products use bfloat16 copies of the weights, which are updated after each step of the
    optimizer. One product gives the gradient on the weights for clean samples and adversarial
    copies together, so that their sum is rounded to bfloat16 only once.

    An object serves for one epoch. Nothing else may change the weights meanwhile.

    Parameters
    ----------
    net : AdversarialNet
        A net that fulfils `may_be_explicit`.
    """

    def __init__(self, net):
        self.net = net
        module = net.module_
        if not module.training:
            module.train()
        self.optimizer = BlockwiseOptimizer(net.optimizer_)
        self.input_dropout, self.hidden_dropout = module.input_dropout.p, module.hidden_dropout.p
        parts = [*module.layers, module.output]
        self.layers = [_HalfLayer(part.weight, part.bias, module.max_norm) for part in parts]

    @torch.no_grad()
    def __call__(self, batch):
        """Take one training step on a batch; return a dict with the mixed loss."""
        net = self.net
        X, y = unpack_data(batch)
        if not X.is_floating_point():
            X = X.float()
        alpha, perturbations = net.mixture_now()
        serves_both = alpha < 1 and net._reuses_clean_gradient
        n_samples, n_passes = len(X), 1 + (0 < alpha < 1)
        for layer in self.layers:
            layer.allocate(n_passes * n_samples)
        copies = None
        if alpha < 1 and not serves_both:
            with torch.enable_grad():
                copies = net._craft(X, y, perturbations=perturbations)
        loss, rows = 0, slice(0, n_samples)
        if alpha > 0:
            loss, slope = self._pass(X, y, alpha, rows, needs_input_gradient=serves_both)
            if serves_both:
                copies = fgsm_copies(slope.to(X.dtype), X, perturbations)
            rows = slice(n_samples, 2 * n_samples)
        if alpha < 1:
            loss = loss + self._pass(copies, y, 1 - alpha, rows)[0]
        for layer in self.layers:
            layer.update(self.optimizer, n_passes * n_samples)
        return {"loss": loss}

    def _pass(self, X, y, share, rows, *, needs_input_gradient=False):
        """Run a forward and a backward pass, and store the layers' inputs and gradients.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, n_features)
        y : torch.Tensor, or pair of labels and weights
        share : float
            Factor of the loss.
        rows : slice
            The rows of the layers' memory for these samples.
        needs_input_gradient : bool, default=False
            Whether to compute the gradient on X.

        Returns
        -------
        loss : torch.Tensor of shape ()
            The loss times `share`.
        slope : torch.Tensor of shape (n_samples, n_features) or None
            Its gradient on X.
        """
        *hidden, output = self.layers
        factors = dropout_factors(X.shape, self.input_dropout)
        first, below = factors, X.to(torch.bfloat16)
        passed = []
        for layer in hidden:
            largest = layer.forward(_scaled(below, factors), rows)
            factors = dropout_factors(largest.shape, self.hidden_dropout)
            passed.append((layer, largest, factors))
            below = largest
        logits = output.forward(_scaled(below, factors), rows).float().requires_grad_(True)
        with torch.enable_grad():
            loss = share * self.net.get_loss(logits, y, X=X, training=True)
        (slope,) = torch.autograd.grad(loss, logits)
        slope = output.backward(slope, rows)
        for layer, largest, factors in reversed(passed):
            slope = layer.backward(
                _scaled(slope, factors),
                rows,
                largest,
                needs_input_gradient=needs_input_gradient or layer is not hidden[0],
            )
        return loss.detach(), None if slope is None else _scaled(slope, first)


class _HalfLayer:
    """A maxout or output layer with a bfloat16 copy of its float32 weights.

    Parameters
    ----------
    weight : torch.nn.Parameter of shape (n_pieces, n_units, n_inputs) or (n_units, n_inputs)
    bias : torch.nn.Parameter of shape (n_pieces, n_units) or (n_units,)
    max_norm : float or None
    """

    def __init__(self, weight, bias, max_norm):
        self.parameters = weight, bias
        self.max_norm = max_norm
        self.shape = bias.shape
        self.weight = weight.detach().flatten(0, -2).to(torch.bfloat16)
        self.bias = bias.detach().flatten().to(torch.bfloat16)
        self.gradient = torch.empty_like(self.weight)
        self.inputs = self.slopes = self.weight.new_empty(0, 0)

    def allocate(self, n_rows):
        """Allocate memory for the inputs and gradients of `n_rows` samples."""
        if len(self.inputs) < n_rows:
            self.inputs = self.weight.new_empty(n_rows, self.weight.shape[1])
            self.slopes = self.weight.new_empty(n_rows, self.weight.shape[0])

    def forward(self, X, rows):
        """The outputs of the layer at X: the largest piece per unit, or the logits.

        X and the pieces are stored in `rows` of the layer's memory.
        """
        self.inputs[rows] = X
        pieces = self.slopes[rows]
        torch.addmm(self.bias, self.inputs[rows], self.weight.T, out=pieces)
        return pieces.unflatten(1, self.shape).amax(1) if len(self.shape) == 2 else pieces

    def backward(self, slope, rows, largest=None, *, needs_input_gradient=True):
        """Store the gradient on the pieces, given the gradient `slope` on the layer's outputs.

        Returns the gradient on the layer's input, or None unless `needs_input_gradient`.
        """
        slopes = self.slopes[rows]
        if largest is None:
            slopes.copy_(slope)
        else:
            pieces = slopes.unflatten(1, self.shape)
            torch.eq(pieces, largest.unsqueeze(1), out=pieces)
            # If several pieces are equally large in bfloat16, only the first gets the gradient.
            rest = torch.ones_like(largest)
            for k in range(self.shape[0]):
                rest.sub_(pieces[:, k].mul_(rest))
            pieces.mul_(slope.unsqueeze(1))
        return slopes @ self.weight if needs_input_gradient else None

    def update(self, optimizer, n_rows):
        """Take a step of the optimizer, with the gradient of the first `n_rows` stored samples."""
        weight, bias = self.parameters
        slopes = self.slopes[:n_rows]
        torch.mm(slopes.T, self.inputs[:n_rows], out=self.gradient)
        optimizer.step(weight, self.gradient, self._finish_block)
        optimizer.step(bias, slopes.sum(0, keepdim=True, dtype=torch.float32))
        self.bias.copy_(bias.detach().flatten())

    def _finish_block(self, rows, block):
        """Limit the norms of a block of updated weights, and copy the block to bfloat16."""
        if self.max_norm is not None:
            limit_norms(block, self.max_norm)
        self.weight[rows] = block


def dropout_factors(shape, share):
    """The random factors of dropout in bfloat16, 0 or 1 / (1 - share); None if `share` is 0.

    The share is rounded to a multiple of 2⁻¹⁶, since 16 random bits are drawn per input.
    """
    if share == 0:
        return None
    n_numbers = shape[0] * shape[1]
    bits = torch.empty(-(-n_numbers // 4), dtype=torch.int64)
    bits.random_(-(2**63), None, generator=generator_on("cpu"))
    level = round(share * 2**16) - 2**15
    factors = torch.empty(shape, dtype=torch.bfloat16)
    torch.ge(bits.view(torch.int16)[:n_numbers].view(shape), level, out=factors)
    return factors.mul_(1 / (1 - share))


def _scaled(values, factors):
    return values if factors is None else values * factors
