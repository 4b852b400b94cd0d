"""Rules for transformers of numbers."""

import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

from sk_adv.differentiable._core import as_module


class Affine(nn.Module):
    """x ∘ scale + shift, clamped to `limits` if they are given."""

    def __init__(self, scale, shift, limits=None):
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale).clone())
        self.register_buffer("shift", torch.as_tensor(shift).clone())
        self.limits = limits

    def forward(self, X):
        """Transform X of shape (n_samples, n_features)."""
        result = X * self.scale + self.shift
        return result if self.limits is None else torch.clamp(result, *self.limits)

    @property
    def is_affine(self):
        """Whether nothing is clamped."""
        return self.limits is None


@as_module.register(StandardScaler)
def _(scaler):
    one = torch.ones(scaler.n_features_in_, dtype=torch.float64)
    scale = one / torch.as_tensor(scaler.scale_) if scaler.with_std else one
    shift = -torch.as_tensor(scaler.mean_) * scale if scaler.with_mean else 0 * one
    return Affine(scale, shift)


@as_module.register(MinMaxScaler)
def _(scaler):
    return Affine(scaler.scale_, scaler.min_, scaler.feature_range if scaler.clip else None)
