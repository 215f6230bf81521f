"""What is measured, and with what: the table of workloads, contestants, inputs, and the model.

Imports `measuring` and what lies below it.
"""
