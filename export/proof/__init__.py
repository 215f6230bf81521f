"""Every artifact beside the PyTorch reference: parity on fixed cases, fidelity on held-out data, and the gates.

Imports `samples`, `reference`, `progress` and `runtime`.
"""

from export.proof.fidelity import missed_gates
from export.proof.judge import Judge, working_engines
from export.proof.parity import check_gates

__all__ = ["Judge", "check_gates", "missed_gates", "working_engines"]
