# syntax=docker/dockerfile:1
# The gateway's image: built with the lock file, run by a user without rights, fit for a read-only root file system.

FROM rust:1.95-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# Dependencies alone, in a layer that only a change of Cargo.toml or Cargo.lock renews.
# The benches are named in Cargo.toml, so cargo wants to see their files.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/e2e \
 && touch src/lib.rs \
 && for file in src/main.rs benches/micro.rs benches/e2e/main.rs; do echo 'fn main() {}' > "$file"; done \
 && cargo build --release --locked --bin ssm-gateway \
 && rm -r src

# The copies carry older times than that build, so cargo is told that they changed.
COPY . .
RUN touch src/lib.rs src/main.rs \
 && cargo build --release --locked --bin ssm-gateway \
 && strip target/release/ssm-gateway

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="ssm-gateway" \
      org.opencontainers.image.description="API gateway of the SuperSmartMatch platform" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Pingora reads the roots when it starts, also where no upstream speaks TLS.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin gateway \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /build/target/release/ssm-gateway /usr/local/bin/ssm-gateway
COPY LICENSE /usr/share/doc/ssm-gateway/LICENSE
WORKDIR /etc/ssm-gateway
COPY routes.yaml ./
COPY conf/ conf/

# Accounts, generated secrets and the last good table: all that the gateway writes.
VOLUME /data
USER 10001:10001
EXPOSE 5050
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["ssm-gateway", "healthcheck"]
ENTRYPOINT ["ssm-gateway"]
CMD ["run", "--data-dir", "/data"]
