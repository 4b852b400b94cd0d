"""Adversarial copies as steps of pipelines: in place of the data, or beside it."""

from sk_adv.preprocessing._sampler import FGSMSampler
from sk_adv.preprocessing._transformer import FGSMTransformer

__all__ = ["FGSMSampler", "FGSMTransformer"]
