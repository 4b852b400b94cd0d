"""One report of what small changes of the data do to a fitted classifier.

``python -m sk_adv audit`` makes it from a model and data in files.
"""

from sk_adv.audit._audit import audit
from sk_adv.audit._report import AuditReport

__all__ = ["AuditReport", "audit"]
