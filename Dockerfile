# Images of the ranker (docs/adr/0052-images.md):
#   store      Redis with this project's configuration and users
#   proxy      Debian's HAProxy with this project's configuration
#   serve-cpu  contract + service on ONNX Runtime's CPU build: no torch, no pip, no shell needed
#   analysis   contract + analysis: the sink and the report
#   offline    training, exporter and the one-shots of docker-compose.yml
#   serve-gpu  as serve-cpu, with ONNX Runtime's CUDA build and the CUDA libraries it needs
# serve-gpu is last because a builder without BuildKit builds every stage above the requested one.
#
# A plain `pip` finds torch's CUDA build, several GB of which a CPU machine uses nothing: pass the address of an index
# with CPU builds as `--build-arg PIP_EXTRA_INDEX_URL=...` to make `offline` small.
#
# Base images are pinned by digest; deploy/pin-images finds newer ones. A build argument names another, such as a mirror.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG REDIS_IMAGE=redis:7-bookworm@sha256:595cc6f2bb3af6e03347b90deb6123c6aa2c81dea05ce08128de8a174b6ac67b

FROM ${REDIS_IMAGE} AS store
COPY deploy/redis/ /usr/local/etc/redis/
# new volumes take over the owner of these directories
COPY deploy/secrets/make-secrets /usr/local/bin/
RUN mv /usr/local/etc/redis/look /usr/local/bin/ && cd / && \
    mkdir -p data run/secrets secrets/redis secrets/events secrets/rank secrets/sink secrets/feed secrets/seed secrets/prometheus && \
    chown -R 65532:65532 /data /secrets
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["redis-server", "/usr/local/etc/redis/redis.conf"]
CMD []
# this user needs no password, and may do nothing else
HEALTHCHECK --interval=5s --timeout=2s --retries=5 \
    CMD ["redis-cli", "-e", "--user", "health", "--pass", "any", "--no-auth-warning", "ping"]

FROM ${PYTHON_IMAGE} AS base
# a home and a name, since the numeric user has neither and libraries ask for both
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    LOGNAME=ranker
# a new volume takes over this directory's owner
RUN mkdir -p /srv/spool && chown 65532:65532 /srv/spool
WORKDIR /app
USER 65532:65532

FROM base AS empty-venv
USER 0:0
RUN python -m venv --without-pip /opt/venv

# what runs needs no installer
FROM base AS runtime
USER 0:0
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
    /usr/bin/pip* /usr/lib/python3/dist-packages/pip* /usr/share/python-wheels
USER 65532:65532

FROM runtime AS proxy
USER 0:0
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
COPY deploy/haproxy/compose.cfg /usr/local/etc/haproxy/haproxy.cfg
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
HEALTHCHECK --interval=5s --timeout=3s --retries=3 \
    CMD ["python3", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health/proxy'); raise SystemExit(c.getresponse().status != 200)"]

FROM empty-venv AS venv-serve-cpu
COPY locks/serve-cpu.txt /tmp/lock.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/lock.txt

FROM base AS app-serve
USER 0:0
COPY contract/ contract/
COPY service/ service/
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM runtime AS serve-cpu
COPY --from=venv-serve-cpu /opt/venv /opt/venv
COPY --from=app-serve /app /app
ENV RANKER_STREAMS__SPOOL=/srv/spool
EXPOSE 8000
ENTRYPOINT ["python", "-m", "service"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]

FROM empty-venv AS venv-analysis
COPY locks/analysis.txt /tmp/lock.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/lock.txt

FROM runtime AS analysis
COPY --from=venv-analysis /opt/venv /opt/venv
USER 0:0
COPY contract/ contract/
COPY analysis/ analysis/
# a new volume takes over this directory's owner
RUN python -m compileall -q --invalidation-mode unchecked-hash . && mkdir -p /srv/parquet && chown 65532:65532 /srv/parquet
USER 65532:65532
ENV RANKER_SINK__METRICS_HOST=0.0.0.0
EXPOSE 9109
ENTRYPOINT ["python", "-m", "analysis"]
CMD ["sink", "--out", "/srv/parquet"]

FROM empty-venv AS venv-offline
ARG PIP_EXTRA_INDEX_URL
COPY locks/offline.txt locks/torch-cpu.txt locks/torch-cuda.txt /tmp/locks/
# The CPU build of torch first: pip prefers files whose hash the index names, and a folder of wheels names none. Where pip
# finds no CPU build, the CUDA build is next, which needs more packages: `pip check` finds out.
RUN install() { pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r "$1"; } && \
    whole() { pip --python /opt/venv/bin/python check; } && \
    { install /tmp/locks/torch-cpu.txt || true; } && install /tmp/locks/offline.txt && \
    { whole || { install /tmp/locks/torch-cuda.txt && whole; }; }

FROM runtime AS offline
COPY --from=venv-offline /opt/venv /opt/venv
USER 0:0
# new volumes take over the owner of these directories; datasets stays empty unless the host mounts its own there
RUN mkdir -p /srv/datasets /srv/work /srv/releases && chown 65532:65532 /srv/work /srv/releases
USER 65532:65532
COPY contract/ contract/
COPY models/ models/
COPY training/ training/
COPY exporter/ exporter/
COPY service/ service/
COPY deploy/ deploy/
ENTRYPOINT ["python", "-m", "deploy.compose.bootstrap"]
CMD ["release"]

FROM empty-venv AS venv-serve-gpu
COPY locks/serve-gpu.txt /tmp/lock.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/lock.txt

FROM runtime AS serve-gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=venv-serve-gpu /opt/venv /opt/venv
COPY --from=app-serve /app /app
ENV RANKER_STREAMS__SPOOL=/srv/spool
EXPOSE 8000
ENTRYPOINT ["python", "-m", "service"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
