"""What keeps a server up: keys, bounds on clients, metrics, logs, health, draining, reload and several processes.

Knows no protocol. May import the modules of `runtime.serve` itself that are no application, and of its rooms
`scheduling.observer` and `models.contract`.
"""
