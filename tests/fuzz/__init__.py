"""Property tests of everything that reads a file or a structure from outside, and the fuzzer that runs them for longer.

`properties/` says what must hold; `test_properties.py` tries a few hundred inputs of each with the suite; `make fuzz
MINUTES=N` (`python -m tests.fuzz`) tries millions, led by coverage, and keeps what it found interesting. A finding
becomes an entry of `found.py`, which the suite tries every time.
"""
