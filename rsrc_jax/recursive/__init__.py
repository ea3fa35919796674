"""Recursive models on puzzles: their loop, targets, and dead compute.

Shares runtime and accounting with train.py; knows no codes and no roles.
"""
