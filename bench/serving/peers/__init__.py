"""Other servers with the bundle's own text graph, each as its documentation starts: `entries` is the table of them.

Each runs in an environment of its own, which `make servers` sets up; the other modules are what runs there, and import
nothing of this project but `graph` and, for plain FastAPI, the runtime.
"""
