"""The loaded bundles by name, what a request asks of them, and how they are replaced while requests run.

May import `runtime.serve.scheduling` and `runtime.serve.decoding`.
"""
