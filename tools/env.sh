# Sourced by the launchers of tools/: sets $python to the interpreter that runs
# them, by default that of .venv, which it makes from a lock of requirements/.
#   PYTHON=...      the interpreter of a new .venv; by default the newest at hand
#   RSRC_ENV=image  no .venv: PYTHON or python3 with its own packages and those
#                   of .beside (docs/running.md, "An accelerator image")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
python="$venv/bin/python"

# "3.14 3.13 ...", newest first: the Pythons that have a lock.
locked() {
  local lock
  for lock in "$root"/requirements/py3*.lock; do
    lock=${lock##*/py3}
    echo "${lock%.lock}"
  done | sort -rn | sed 's/^/3./' | tr '\n' ' '
}

# "3.13", if the interpreter starts and can make an environment. A shim of pyenv
# may stand for a version that is not selected, and ends with an error.
version_of() {
  "$1" -c 'import sys, venv, ensurepip
print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

has_lock() {
  [ -n "$1" ] && [ -f "$root/requirements/py${1/./}.lock" ]
}

find_python() {
  local version candidate found
  if [ -n "${PYTHON:-}" ]; then
    version=$(version_of "$PYTHON")
    has_lock "$version" && echo "$PYTHON" && return
    echo "error: PYTHON=$PYTHON is" \
         "${version:-no Python with venv and pip}${version:+, without a lock}:" \
         "give one of the Pythons $(locked)with venv and pip." >&2
    return 1
  fi
  for version in $(locked); do
    for candidate in "python$version" python3 python; do
      if found=$(version_of "$candidate") && [ "$found" = "$version" ]; then
        echo "$candidate"
        return
      fi
    done
  done
  echo "error: none of the Pythons $(locked)was found with venv and pip:" \
       "install one of them (Debian, Ubuntu: apt install python3 python3-venv)" \
       "or set PYTHON to its path." >&2
  return 1
}

install() {
  local base version other lock packages
  if [ ! -x "$python" ]; then
    base=$(find_python) || return 1
    echo "Making the virtual environment .venv with $("$base" --version)." >&2
    "$base" -m venv "$venv" || return 1
  fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
    2>/dev/null)
  if ! has_lock "$version"; then
    echo "error: the Python of .venv is ${version:-broken}, and locks are for" \
         "$(locked)alone: delete .venv and start again." >&2
    return 1
  fi
  if [ -n "${PYTHON:-}" ]; then
    other=$(version_of "$PYTHON")
  fi
  if [ "${other:-$version}" != "$version" ]; then
    echo "note: .venv is of Python $version and is kept; delete it to use" \
         "PYTHON=$PYTHON ($other)." >&2
  fi
  lock="$root/requirements/py${version/./}.lock"
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

# The interpreter of an image, with what it lacks in .beside.
use_image() {
  python=$(command -v "${PYTHON:-python3}") || {
    echo "error: RSRC_ENV=image: ${PYTHON:-python3} is not there: set PYTHON" \
         "to the image's interpreter." >&2
    return 1
  }
  "$python" "$root/tools/beside.py" --quiet ${extra:+"--extra=$extra"} ||
    return 1
  PYTHONPATH="$root/.beside${PYTHONPATH:+:$PYTHONPATH}"
}

case ${RSRC_ENV:-} in
  "") install || exit 1 ;;
  image) use_image || exit 1 ;;
  *) echo "error: RSRC_ENV=$RSRC_ENV: leave it empty (.venv) or set it to" \
          "image (the packages of an accelerator image)." >&2
     exit 1 ;;
esac
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
