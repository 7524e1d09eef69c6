# The cross compilers of the release, and nothing else: `invoke kube-cross` builds it in the daemon. MORE are packages
# that --windows adds.
FROM debian:bookworm-slim
ARG MORE=""
RUN set -e; \
    ours="$(dpkg --print-architecture)"; \
    wanted="gcc libc6-dev $MORE"; \
    for pair in x86-64-linux-gnu:amd64 arm-linux-gnueabihf:armhf aarch64-linux-gnu:arm64 \
                powerpc64le-linux-gnu:ppc64el s390x-linux-gnu:s390x; do \
        [ "${pair#*:}" = "$ours" ] || wanted="$wanted gcc-${pair%:*} libc6-dev-${pair#*:}-cross"; \
    done; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $wanted; \
    rm -rf /var/lib/apt/lists/*
