#!/usr/bin/env bash
# All that this project wants to know of one data-centre GPU, in a quarter of an hour:
# benchmarks/gpu/run.py, with the interpreter that the launchers of tools/ take.
#   ./benchmarks/gpu.sh                      all steps; again: what is left
#   RSRC_ENV=image ./benchmarks/gpu.sh       on an image that brings its own jax
#   ./benchmarks/gpu.sh --only=device,speed --out=DIR
#   ./benchmarks/gpu.sh --toy                the same on a CPU, small: a rehearsal
begun=$(date +%s)  # what env.sh installs counts
source "$(dirname "${BASH_SOURCE[0]}")/../tools/env.sh"
exec "$python" "$root/benchmarks/gpu/run.py" --begun="$begun" "$@"
