"""Grids of runs: planned, started, resumed, watched and collected.

`grid` has the functions that a config's get_sweep() is written with, `plan` the
runs and their ids. `files`, `owner` and `state` keep what is known on disk.
`drive` starts runs by an executor (`executor` has its contract, `local` the
cores of this machine, `attempt` the process around a run). `cost`, `status`
and `collect` read; `slurm` writes a script; `cli` is the command line. What a
run does, and whether it went well, is decided elsewhere: by its summary.json.
"""
