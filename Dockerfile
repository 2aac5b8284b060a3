# framegate as an image: the program, the system's roots, and nothing else. It takes
# no daemon to be reviewed: the last stage has three COPY lines, and the program is,
# byte for byte, that of a release with the same VERSION, COMMIT and Go.
#
#   docker build --build-arg VERSION=1.2.0 --build-arg COMMIT=$(git rev-parse HEAD) -t framegate .
#   docker run --network host --cap-drop ALL --cap-add NET_ADMIN --stop-timeout 60 \
#     --ulimit nofile=1048576 -v /etc/framegate:/etc/framegate:ro -v framegate:/var/lib/framegate framegate
#
# The redirect rules are the host's: docs/PACKAGING.md.

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends libcap2-bin && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.0.0
ARG COMMIT=
ARG TARGETARCH
RUN CGO_ENABLED=0 GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.releaseVersion=v$VERSION -X main.releaseCommit=$COMMIT" -o /out/framegate ./cmd/framegate
# SO_MARK takes CAP_NET_ADMIN, which a user other than root has only by the file: without
# --cap-add NET_ADMIN the program does not start.
RUN setcap cap_net_admin+ep /out/framegate && mkdir /out/state && chmod 700 /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/state /var/lib/framegate
COPY --from=build /out/framegate /usr/bin/framegate
USER 65532:65532
VOLUME ["/var/lib/framegate"]
# There is no shell here to ask with: what supervises the container asks /readyz on the admin port.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/framegate"]
CMD ["run"]
