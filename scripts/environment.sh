# Sourced by scripts/test, scripts/demo, scripts/forgetting_study and .ci/run. Makes an
# environment with this checkout installed, at the first call and again when setup.py
# changes. Afterwards $root is the checkout and $python the environment's interpreter.
#
#   PYTHON        the interpreter to make it with (default: python3.11, python3)
#   T5TUNE_VENV   where it is (default: .venv in the checkout)

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
venv=${T5TUNE_VENV:-$root/.venv}
python=$venv/bin/python

is_new_enough() {
  command -v "$1" > /dev/null 2>&1 &&
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1
}

find_python() {
  for candidate in ${PYTHON:-python3.11 python3 python}; do
    if is_new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  if [ -n "${PYTHON:-}" ]; then
    echo "error: PYTHON=$PYTHON is not Python 3.11 or newer." >&2
  else
    echo "error: no Python 3.11 or newer was found ($(python3 --version 2>&1 || true))." >&2
    echo "Install one and name it: PYTHON=/path/to/python3.11 $0" >&2
  fi
  return 2
}

# An editable installation: a changed source file needs no new one.
stamp="$root $(cksum < "$root/setup.py")"
if [ ! -x "$python" ] || [ "$(cat "$venv/t5tune-stamp" 2> /dev/null)" != "$stamp" ]; then
  maker=$(find_python) || exit 2
  echo "Installing t5tune into $venv; the first time takes some minutes." >&2
  if ! "$maker" -m venv "$venv"; then
    echo "error: $maker -m venv failed; on Debian and Ubuntu install python3-venv." >&2
    exit 2
  fi
  rm -f "$venv/t5tune-stamp"
  "$python" -m pip install --disable-pip-version-check --quiet -e "$root[test]"
  echo "$stamp" > "$venv/t5tune-stamp"
fi
