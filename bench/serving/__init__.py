"""What the server costs and what it withstands: `python -m bench serve BUNDLE`.

A load client in a process of its own, scenarios that each start `python -m runtime serve`, and other servers with the
same graph. Every answer is compared with what the engine gives in process. Imports `errors`, `processes`, `record`,
`workloads` and `pages`.
"""
