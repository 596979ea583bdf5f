# The image contains Python, the exporter and their shared libraries: no shell, no package manager, no installer.
# It is independent of the architecture: `docker buildx build --platform linux/amd64,linux/arm64 .`
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Additional packages, such as a database driver for the result backend: --build-arg PACKAGES="psycopg[binary]"
ARG PACKAGES=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
SHELL ["/bin/sh", "-euc"]
WORKDIR /src
COPY image image
COPY pyproject.toml README.md LICENSE ./
COPY alerts alerts
COPY grafana/dashboards grafana/dashboards
COPY docs/runbooks docs/runbooks
COPY exporter exporter
# One environment builds, another one runs; all packages of both are pinned with their hashes.
RUN python="$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" \
    && "$python" -m venv /build \
    && "$python" -m venv --without-pip /opt/celery-vitals \
    && /build/bin/pip install --require-hashes -r image/build.txt \
    && /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /build/bin/pip --python /opt/celery-vitals/bin/python install --require-hashes -r image/run.txt \
    && /build/bin/pip --python /opt/celery-vitals/bin/python install --no-deps /dist/*.whl
RUN if [ -n "$PACKAGES" ]; then /build/bin/pip --python /opt/celery-vitals/bin/python install $PACKAGES; fi \
    && python3 image/rootfs.py /opt/celery-vitals /image \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /image -p / /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="celery-vitals" \
      org.opencontainers.image.description="Prometheus exporter for Celery" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
ENV PATH=/opt/celery-vitals/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 10818
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["celery-vitals", "healthy"]
ENTRYPOINT ["celery-vitals"]
CMD ["serve"]
