"""The table of inference engines (`providers`), one file for each, and what they need to know of the machine.

A new engine is one file that opens sessions and one entry of `PROVIDERS`. Imports `process` and `files`.
"""

from runtime.engines.cores import default_threads
from runtime.engines.processor import first_gpu, processor_name
from runtime.engines.providers import PROVIDERS, Provider, choose_provider, unavailable_reason
from runtime.engines.session import Session, SessionOptions
from runtime.engines.sessions import Sessions

__all__ = [
    "PROVIDERS",
    "Provider",
    "Session",
    "SessionOptions",
    "Sessions",
    "choose_provider",
    "default_threads",
    "first_gpu",
    "processor_name",
    "unavailable_reason",
]
