# syntax=docker/dockerfile:1

# What is shipped on. Distroless has no version tags: a release names a digest, --build-arg RUNTIME=…@sha256:…
ARG RUNTIME=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=devel
ARG COMMIT=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags nodev \
    -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /gateway ./cmd/gateway

# Nothing but the binary and certificates: no shell, no user but 65532.
FROM $RUNTIME
COPY --from=build /gateway /gateway
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/gateway"]
CMD ["serve"]
