#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes sure that cargo and a linker are here, then hands over to the test bed, which is written in Rust.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
oldest=85 # the 1.85 of rust-version in Cargo.toml

usable_cargo() {
    version=$(cargo --version 2>/dev/null) || return 1
    minor=${version#cargo 1.}
    minor=${minor%%.*}
    case $minor in '' | *[!0-9]*) return 1 ;; esac
    [ "$minor" -ge "$oldest" ]
}

packaged_cargo() {
    version=$(LC_ALL=C apt-cache policy cargo 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}1\.\([0-9]*\)\..*/\2/p')
    [ -n "$version" ] && [ "$version" -ge "$oldest" ]
}

install() {
    echo "installing with apt-get: $*"
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    else
        echo "(this asks for your password, through sudo)"
        sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    fi
}

refresh() {
    if [ "$(id -u)" = 0 ]; then apt-get update; else sudo apt-get update; fi
}

if ! command -v cc >/dev/null; then
    if command -v apt-get >/dev/null; then
        install gcc libc6-dev || { refresh && install gcc libc6-dev; }
    else
        echo "testbed: no C linker (cc) in PATH; install gcc and the C library's headers, then run this again" >&2
        exit 1
    fi
fi

if ! usable_cargo; then
    if command -v apt-get >/dev/null && { packaged_cargo || { refresh && packaged_cargo; }; }; then
        install cargo rustc rustfmt rust-clippy
    else
        echo "testbed: cargo 1.$oldest or newer is needed, and this system does not package it." >&2
        echo "Install it with rustup (https://rustup.rs), with the components rustfmt and clippy, then run this again." >&2
        exit 1
    fi
fi

cd "$here"
exec cargo run -q -p iommuctl-tests --bin testbed -- "$@"
