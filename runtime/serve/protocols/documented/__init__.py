"""What the OpenAPI document says of each path, as data: requests, answers, examples.

Imports the names of tasks alone.
"""
