# The image holds the program and nothing else: no shell, no libraries, no root.
#
#   docker build --build-arg VERSION=v1.2.3 -t csi-clone-provisioner:v1.2.3 .
#
# Everything that is compiled is in the build context (vendor/): the build needs no
# network once the base image is there.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY vendor/ vendor/
COPY cmd/ cmd/
COPY pkg/ pkg/
ARG VERSION=dev
# Set by BuildKit for an image of another platform; empty means this one.
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -mod=vendor -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION}" \
    -o /out/csi-clone-provisioner ./cmd/csi-clone-provisioner

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="csi-clone-provisioner" \
      org.opencontainers.image.description="CSI sidecar that provisions volumes and clones them safely" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY LICENSE /LICENSE
COPY --from=build /out/csi-clone-provisioner /csi-clone-provisioner
# By number, so that runAsNonRoot can be checked. Connecting to the driver's socket
# takes write permission on it: beside a driver that runs as root and keeps its
# socket to itself, the pod has to set "runAsUser: 0" for this container.
USER 65532:65532
ENTRYPOINT ["/csi-clone-provisioner"]
