"""De-identification by PS3.15 Annex E: an engine, a verifier that does not trust it, and policies.

    engine = Engine(load_policy("research"), read_key(Path("trial.key")))
    released = engine.deidentify(Path("in.dcm").read_bytes())   # or raises Quarantined

It knows pydicom only. `run(Batch(...))` does a folder; `python -m anonymizer --describe research` says
what a profile does.
"""

from anonymizer.assignment import Assignment
from anonymizer.batch import Batch, BatchRefused, Report, run, stage
from anonymizer.description import describe
from anonymizer.engine import Deidentified, Engine
from anonymizer.keys import ProjectKey, make_key, read_key
from anonymizer.policy import PRESETS, Policy, PolicyRejected, document_in, load_policy, policy_from
from anonymizer.promises import Expected
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.table import Option
from anonymizer.verifier import Finding, verify

__all__ = [
    "PRESETS",
    "Assignment",
    "Batch",
    "BatchRefused",
    "Deidentified",
    "Engine",
    "Expected",
    "Finding",
    "Option",
    "Policy",
    "PolicyRejected",
    "ProjectKey",
    "Quarantined",
    "Reason",
    "Report",
    "describe",
    "document_in",
    "load_policy",
    "make_key",
    "policy_from",
    "read_key",
    "run",
    "stage",
    "verify",
]
