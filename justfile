# What there is to do.
default:
    @just --list --unsorted

# Everything, unoptimised.
build:
    cargo build --workspace --all-targets

# Every test, with what it needs; arguments go to cargo-nextest.
test *arguments:
    ./test {{ arguments }}

# Format, direction of dependencies, clippy.
lint:
    .ci/steps fmt direction clippy

# Formats the code.
fmt:
    cargo fmt --all

# The documentation, without warnings.
docs:
    .ci/steps docs

# Licences, bans, sources and, where they can be fetched, advisories.
deny:
    .ci/steps deny

# The facade beside sqlx 0.8 and rusqlite 0.37.
resolve:
    .ci/steps resolve

# What CI runs.
ci:
    .ci/run

# The conformance suite and its matrix, for all backends or one.
conformance *backend:
    .ci/steps conformance {{ backend }}

# The suite through a pooler in transaction mode (pgbouncer): a few minutes more, so it is not part of `conformance`.
conformance-pooler:
    .ci/steps conformance postgres-pooled

# The same work over every backend, beside the raw database.
bench *arguments:
    .ci/steps bench {{ arguments }}

# Writers at full speed through a cutover, a revert and a second cutover: five minutes, or as many seconds as are given.
soak seconds="300":
    CHANGEOVER_SOAK_SECONDS={{ seconds }} ./test --profile soak -p changeover-cutover --no-capture under_writers

# Coordinators killed at every named place, three times each, or as often as is given.
kills repeats="3":
    CHANGEOVER_KILL_REPEATS={{ repeats }} ./test -p changeover-cutover -E 'binary(moves) & test(/^(killed|roots)::/)'

# How well playbooks are found in ../shared/data, through memory, sqlite or postgres.
retrieval *arguments:
    .ci/steps retrieval {{ arguments }}

# Sample data through the stores.
demo:
    cargo run -- demo

# The event streams of ../shared/data into SQLite and PostgreSQL, out again, and compared record by record.
import-shared:
    ./test -p changeover-cli real_streams_survive

# Stops the PostgreSQL that tests run by hand left running.
stop-postgres:
    cargo run --quiet -p changeover-testkit --bin testkit -- stop
