"""Pipeline steps that replace samples by adversarial copies, or append copies to the data."""

from sk_adv.preprocessing._sampler import FGSMSampler
from sk_adv.preprocessing._transformer import FGSMTransformer

__all__ = ["FGSMSampler", "FGSMTransformer"]
