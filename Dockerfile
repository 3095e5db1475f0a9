# A small image with uringloop installed:
#
#   docker build -t uringloop .
#   docker run --rm uringloop doctor
#   docker run --rm --network host uringloop proxy :8080 127.0.0.1:9000
#
# Docker's default seccomp profile denies io_uring; the loop then runs on epoll, and says
# so. To let it have io_uring, allow io_uring_setup, io_uring_enter and io_uring_register in
# a profile of your own (--security-opt seccomp=profile.json).

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev liburing-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[cli]"

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
USER nobody
ENTRYPOINT ["python", "-m", "uringloop"]
