# The usual image, for those who have a registry: `docker build -t villein .`
# Without one, `cargo xtask image` makes a smaller image of a static program.
ARG BUILDER=rust:1-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS builder
# io_uring's library comes along as C, and its build calls git.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /villein
COPY . .
RUN cargo build --locked --release --package villein-cli

FROM ${BASE}
# What handlers may want: bash is there, `uptime` and `ps` are in procps.
RUN apt-get update \
    && apt-get install -y --no-install-recommends procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/villein --shell /bin/bash villein
COPY --from=builder /villein/target/release/villein /usr/local/bin/villein

# Its ports are above 1024: villein needs no privileges, and its handlers get none.
USER villein
WORKDIR /var/lib/villein

# Gossip, and multicast discovery. RPC is for commands inside of the container.
EXPOSE 7946/tcp 7946/udp 5353/udp

# `docker stop` is a leave: SIGINT leaves the cluster, SIGTERM ends the agent at once.
STOPSIGNAL SIGINT

# An agent with another -rpc-addr or with -rpc-auth tells it to all commands in SERF_RPC_ADDR and SERF_RPC_AUTH.
HEALTHCHECK CMD ["villein", "info"]

ENTRYPOINT ["villein"]
# A demonstration: whoever reaches the network has a shell. Name handlers of your own.
CMD ["agent", "-iface=eth0", "-discover=villein", "-event-handler=query:shell=/bin/bash"]
