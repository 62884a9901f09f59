# The image of shorthaul, for amd64 and arm64.
#
#   docker build .                     everything: the agent, the commands, and the eBPF probe
#   docker build --target agent .      without BCC and LLVM, for clusters that switch the probe off
#   make image                         the same without a Docker daemon, with an SBOM (docs/image.md)
#
# BASE: any Debian 13. The probe needs its BCC 0.31.
ARG BASE=debian:13-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/log/*

# A virtual environment of what requirements-image.lock says, each file by its hash, and of this checkout.
FROM python AS environment
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv python3-setuptools python3-wheel \
    && rm -rf /var/lib/apt/lists/*
COPY requirements-image.lock /src/
# /mnt: where `make image` lends this build a pip.conf.
RUN python3 -m venv --system-site-packages /opt/shorthaul \
    && PIP_CONFIG_FILE=/mnt/pip.conf /opt/shorthaul/bin/python -m pip install --no-cache-dir --no-compile --no-deps --only-binary :all: \
        --require-hashes --requirement /src/requirements-image.lock
COPY pyproject.toml README.md LICENSE /src/
COPY topology /src/topology
COPY bpf /src/bpf
COPY agent /src/agent
# `shorthaul bench`, and what its pods run: pyproject.toml names the packages, and none of the lab.
COPY benchmarks /src/benchmarks
RUN /opt/shorthaul/bin/python -m pip install --no-cache-dir --no-compile --no-deps --no-build-isolation /src
# What no process of ours reads goes: what builds (pbr, by which hdrhistogram tells its version, asks for setuptools), and above all
# the generated classes of the Kubernetes client, 115 MB, of which the agent takes the transport only. Byte code is checked by
# nothing, so it is the same whenever it is made.
RUN /opt/shorthaul/bin/python -m pip uninstall --yes --quiet pip setuptools \
    && cd /opt/shorthaul/lib/python3*/site-packages/kubernetes \
    && rm -rf client dynamic aio/dynamic aio/client/api aio/client/models aio/client/api_client.py \
    && find /opt/shorthaul -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
    && find /opt/shorthaul -name '*.pyx' -delete -o -name '*.c' -path '*uvloop*' -delete \
    && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/shorthaul/lib

FROM python AS agent
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="shorthaul" \
      org.opencontainers.image.description="An image mirror for multi-zone Kubernetes clusters: the agent, without the eBPF probe" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=environment /opt/shorthaul /opt/shorthaul
ENV PATH=/opt/shorthaul/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# containerd's socket and content belong to root. The chart takes every capability away but the few that are needed.
USER 0:0
ENTRYPOINT ["shorthaul"]

FROM agent AS shorthaul
LABEL org.opencontainers.image.description="An image mirror for multi-zone Kubernetes clusters: the agent and the eBPF probe"
# python3-bpfcc is bcc; PyPI's package of that name is another one.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-bpfcc libbpf1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/log/*
