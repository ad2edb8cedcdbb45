# The image holds the program and nothing else: no shell, no libraries.
#
#   make image    or    docker build --build-arg VERSION=v1.2.3 -t csi-clone-provisioner:v1.2.3 .
#
# Everything that is compiled is in the build context (vendor/): the build needs no
# network once the base image is there. Nothing of another platform is emulated: Go
# compiles for it.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY vendor/ vendor/
COPY cmd/ cmd/
COPY pkg/ pkg/
ARG VERSION=dev
# Of the image, set by the builder; empty means this machine's.
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -mod=vendor -trimpath -buildvcs=false -tags grpcnotrace \
    -ldflags "-s -w -X main.version=${VERSION}" \
    -o /out/csi-clone-provisioner ./cmd/csi-clone-provisioner
# What the program is called in the image of csi-provisioner: some manifests say so.
RUN ln -s csi-clone-provisioner /out/csi-provisioner

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="csi-clone-provisioner" \
      org.opencontainers.image.description="CSI sidecar that provisions volumes and clones them safely" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY LICENSE /LICENSE
COPY --from=build /out/ /
# No USER here, as in the incumbent's image: most drivers run as root and keep
# their socket to themselves, and the image line must be all that changes. The
# program needs no rights of its own; a pod that runs its driver as another user
# sets "runAsUser" for both (deploy/kubernetes/deployment.yaml).
ENTRYPOINT ["/csi-clone-provisioner"]
