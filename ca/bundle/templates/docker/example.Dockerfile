# Debian, Ubuntu, Alpine (with the package ca-certificates)
FROM debian:stable-slim AS debian
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY framegate-root-*.crt /usr/local/share/ca-certificates/
RUN update-ca-certificates

# RHEL, Fedora
FROM fedora:latest AS fedora
COPY framegate-root-*.crt /etc/pki/ca-trust/source/anchors/
RUN update-ca-trust extract

# Node, and Python packages with a list of their own, in either (RHEL, Fedora:
# /etc/pki/tls/certs/ca-bundle.crt)
FROM debian AS runtimes
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
