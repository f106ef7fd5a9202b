# Images of the ranker (docs/adr/0052-images.md):
#   store      Redis with this project's configuration and access list
#   serve-cpu  contract + service on ONNX Runtime's CPU build: no torch, no pip, no shell needed
#   analysis   contract + analysis: the sink and the report
#   offline    training, exporter and the one-shots of docker-compose.yml
#   serve-gpu  as serve-cpu, with ONNX Runtime's CUDA build and the CUDA libraries it needs
# serve-gpu is last because a builder without BuildKit builds every stage above the requested one.
#
# A plain `pip` finds torch's CUDA build, several GB of which a CPU machine uses nothing: pass the address of an index
# with CPU builds as `--build-arg PIP_EXTRA_INDEX_URL=...` to make `offline` small.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG REDIS_IMAGE=redis:7-bookworm

FROM ${REDIS_IMAGE} AS store
COPY deploy/redis/ /usr/local/etc/redis/
# a new volume takes over this directory's owner
RUN mkdir -p /data && chown 65532:65532 /data
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["redis-server", "/usr/local/etc/redis/redis.conf"]
CMD []
HEALTHCHECK --interval=5s --timeout=2s --retries=5 CMD ["redis-cli", "ping"]

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

FROM empty-venv AS venv-serve-cpu
COPY locks/serve-cpu.txt /tmp/lock.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/lock.txt

FROM base AS app-serve
USER 0:0
COPY contract/ contract/
COPY service/ service/
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM base AS serve-cpu
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

FROM base AS analysis
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
COPY locks/offline.txt /tmp/lock.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: -r /tmp/lock.txt

FROM base AS offline
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

FROM base AS serve-gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=venv-serve-gpu /opt/venv /opt/venv
COPY --from=app-serve /app /app
ENV RANKER_STREAMS__SPOOL=/srv/spool
EXPOSE 8000
ENTRYPOINT ["python", "-m", "service"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
