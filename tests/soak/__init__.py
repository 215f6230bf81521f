"""Hours of mixed work from several threads: memory that does not grow, and answers that stay those of one thread.

`make soak MINUTES=N` (`python -m tests.soak`) runs it; `test_soak.py` runs seconds of it with the suite.
"""
