# One image for every service of ours: Python, the locked dependencies, the command `thermocline`.
# Everything that pip installs stands in a lock with its hash.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/thermocline
RUN /opt/thermocline/bin/pip install --quiet --require-hashes -r requirements-build.lock
RUN /opt/thermocline/bin/pip install --quiet --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY ingest ingest
COPY sensors sensors
COPY lambdas lambdas
COPY infra infra
COPY cli cli
RUN /opt/thermocline/bin/pip install --quiet --no-deps --no-build-isolation --no-index .
# What deploys builds the functions' packages with pip and keeps the wheels here.
RUN mkdir -p /var/cache/thermocline && chmod 1777 /var/cache/thermocline

FROM python:3.13-slim-bookworm
COPY --from=build /opt/thermocline /opt/thermocline
COPY --from=build /var/cache/thermocline /var/cache/thermocline
ENV PATH=/opt/thermocline/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/var/cache \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["thermocline"]
CMD ["--help"]
