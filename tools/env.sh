# Sourced by the launchers of tools/: makes .venv from the pinned lock once and
# sets $python to it. PYTHON=... picks the interpreter of a new environment.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
python="$venv/bin/python"

find_python() {
  for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip
sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "rsrc-jax needs Python 3.11 or 3.12 with pip and venv;" \
       "none was found${PYTHON:+ at PYTHON=$PYTHON}." >&2
  return 1
}

install() {
  local base lock packages
  if [ ! -x "$python" ]; then
    base=$(find_python) || return 1
    echo "Making the virtual environment .venv with $("$base" --version)." >&2
    "$base" -m venv "$venv" || return 1
  fi
  lock="$root/requirements/py$("$python" -c \
    'import sys; print("%d%d" % sys.version_info[:2])').lock"
  if ! cmp -s "$lock" "$venv/installed.lock"; then
    echo "Installing $(basename "$lock"): about a minute, once." >&2
    "$python" -m pip install --quiet --disable-pip-version-check \
      --require-hashes --no-deps --requirement "$lock" || return 1
    cp "$lock" "$venv/installed.lock"
  fi
  # .venv/bin/python finds rsrc_jax and experiments from any folder: a script
  # needs no PYTHONPATH. The line is relative, so a moved clone finds its own.
  for packages in "$venv"/lib/python3.*/site-packages; do
    [ -e "$packages/repository.pth" ] ||
      echo ../../../.. >"$packages/repository.pth"
  done
}

install || exit 1
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
