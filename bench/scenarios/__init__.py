"""Scenarios of the matrix beyond echo: HTTP, churn, idle connections, sendfile, a loop's machinery.

Each module here that answers `scenarios(extent)` is a family of tables; the others are the
processes that they start. bench/scenario.py says what a scenario is.
"""
