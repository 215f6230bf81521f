"""What is computed when, and with what: a queue for each kind of work, and the threads that feed the engine.

Knows nothing of HTTP. May import the wings that compute, and `runtime.serve`'s `request_errors`, `caller` and `limits`.
"""
