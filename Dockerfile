# uringloop in a small image, after its tests have passed:
#
#   docker build -t uringloop .                             # some ten minutes, of which the tests are most
#   docker build -t uringloop --build-arg WHEELS=build .    # without the tests
#   docker run --rm uringloop doctor
#   docker run --rm --network host uringloop proxy :8080 127.0.0.1:9000
#
# Docker's default seccomp profile denies io_uring; the loop then runs on epoll, and says so.
# docker/seccomp.json allows it: --security-opt seccomp=docker/seccomp.json
# Also under the builder's profile: the tests of the io_uring engine skip there, with that reason.

ARG PYTHON_VERSION=3.13
ARG WHEELS=check

FROM python:${PYTHON_VERSION}-slim-trixie AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev liburing-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Without what debuggers read, which would be most of the image.
RUN CFLAGS=-g0 pip wheel --no-cache-dir --wheel-dir /wheels ".[cli]"

# A fresh Debian, as in the README: ./check and bench/run install what they need.
FROM debian:trixie-slim AS fresh
WORKDIR /src
COPY . .

FROM fresh AS check
RUN ./check --quick
COPY --from=build /wheels /wheels

# docker/compose.yaml runs it with and without io_uring.
FROM fresh AS bench
RUN bench/run --list
ENTRYPOINT ["bench/run"]

FROM ${WHEELS} AS wheels

FROM python:${PYTHON_VERSION}-slim-trixie
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
USER nobody
ENTRYPOINT ["uringloop"]
