#!/bin/sh
# Installs what building, testing or the demos need on Debian 12: packages with apt, Python packages into .venv.
# Does nothing that is done already. Usage: tools/setup.sh [--build | --python | --test | --demo | --cubins | --bench]
set -eu
cd "$(dirname "$0")/.."

BUILD_PACKAGES="g++ make cmake ninja-build ccache pkg-config git ca-certificates
  protobuf-compiler libprotobuf-dev libfmt-dev libcli11-dev nlohmann-json3-dev libxxhash-dev libsodium-dev libzip-dev zlib1g-dev
  libxbyak-dev"
TEST_PACKAGES="libgtest-dev libbenchmark-dev"
PYTHON_PACKAGES="python3 python3-dev python3-venv"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "installing packages needs root, or sudo; as root, run: apt-get install -y $missing"
  fi
}

install_packages() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
  done
  [ -z "$missing" ] && return
  command -v apt-get >/dev/null || fail "this is no Debian system; install the equivalents of:$missing"
  say "installing:$missing"
  log=$(mktemp)
  { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1 ||
    { cat "$log" >&2; fail "apt-get could not install:$missing"; }
  rm -f "$log"
}

# The venv is brought up to date when the list changes.
install_python() {
  list="tools/requirements/$1.txt"
  stamp=".venv/installed-$1.txt"
  if [ -x .venv/bin/python ] && cmp -s "$list" "$stamp"; then return; fi
  [ -x .venv/bin/python ] || python3 -m venv .venv
  say "installing Python packages of $list"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r "$list" >&2
  cp "$list" "$stamp"
}

case "${1:---build}" in
  --build) install_packages $BUILD_PACKAGES ;;
  --test)
    install_packages $BUILD_PACKAGES $TEST_PACKAGES $PYTHON_PACKAGES
    install_python test
    install_python python
    install_python nvrtc
    .venv/bin/python tools/fetch_models.py --set test build/models ;;
  --python)
    install_packages $BUILD_PACKAGES $PYTHON_PACKAGES
    install_python python ;;
  --demo)
    install_packages $BUILD_PACKAGES $PYTHON_PACKAGES
    install_python demo ;;
  --cubins)
    install_packages $BUILD_PACKAGES $PYTHON_PACKAGES
    install_python test
    install_python nvrtc
    .venv/bin/python bench/random_models.py build/random ;;
  --bench)
    install_packages $BUILD_PACKAGES $PYTHON_PACKAGES
    install_python bench
    .venv/bin/python tools/fetch_models.py --set test build/models
    .venv/bin/python bench/random_models.py build/random ;;
  *) fail "usage: tools/setup.sh [--build | --python | --test | --demo | --cubins | --bench]" ;;
esac
