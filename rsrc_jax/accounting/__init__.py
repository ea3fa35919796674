"""What a run has cost: ledger, FLOPs, energy, compressors, comparison.

Measures and adds up. Tables and figures of it are drawn in report.
"""
