"""A folder for each claim: README, what draws it, stored results.

Scripts run as `./.venv/bin/python experiments/NAME/plot.py`, or as modules.
"""
