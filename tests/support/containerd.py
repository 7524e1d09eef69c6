"""A containerd of the tests' own, with nothing in it: images as ctr sees them, and pods as kubelet makes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from tests.support.components import lack, need
from tests.support.pidns import Process, until

CRI = "io.containerd.grpc.v1.cri"
# Seconds that a call may take: guards against hangs.
PATIENCE = 60


@dataclass(frozen=True)
class Containerd:
    """Its socket, and the parent of the first process of its namespaces."""

    socket: str
    process: subprocess.Popen[bytes]

    @property
    def enter(self) -> tuple[str, ...]:
        """The command prefix that enters the namespaces of its processes: PID and mount."""
        [first] = Process(self.process.pid).children()
        return (need("nsenter", "util-linux"), f"--target={first}", "--pid", "--mount")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """How `ctr WORDS` ends."""
        command = [need("ctr", "containerd"), "--address", self.socket, *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)

    def __call__(self, *words: str) -> str:
        """The stdout of `ctr WORDS`, which must succeed."""
        run = self.run(*words)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def digests(self) -> dict[str, str]:
        """The images of the default namespace: digests by name."""
        lines = [line.split() for line in self("images", "ls").splitlines()[1:]]
        return {line[0]: line[2] for line in lines}

    @contextmanager
    def cri(self) -> Iterator[Cri]:
        """Kubernetes' interface to it, once that is ready."""
        # The messages' classes are made from the file; the code that this would otherwise need is generated.
        messages, services = grpc.protos_and_services("tests/support/cri.proto")
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            cri = Cri(messages, services.RuntimeServiceStub(channel), services.ImageServiceStub(channel))
            until("the CRI plugin is ready", cri.is_ready, patience=PATIENCE)
            yield cri


@dataclass(frozen=True)
class Cri:
    """The services of the Container Runtime Interface, as kubelet calls them."""

    messages: Any
    runtime: Any
    images: Any

    def is_ready(self) -> bool:
        try:
            status = self.runtime.Status(self.messages.Nothing(), timeout=PATIENCE).status
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return any(each.type == "RuntimeReady" and each.status for each in status.conditions)

    def names(self) -> list[str]:
        """The names of the images that pods can use."""
        images = self.images.ListImages(self.messages.Nothing(), timeout=PATIENCE).images
        return sorted(name for image in images for name in image.repo_tags)

    def pid(self, pod: Any) -> int:
        """The pod's first process, as containerd's PID namespace numbers it."""
        request = self.messages.PodSandboxStatusRequest(pod_sandbox_id=pod.pod_sandbox_id, verbose=True)
        pid: int = json.loads(self.runtime.PodSandboxStatus(request, timeout=PATIENCE).info["info"])["pid"]
        return pid

    @contextmanager
    def pod(self) -> Iterator[Any]:
        """A pod with no containers yet, in the host's network, which needs no plugin; removed at the end."""
        host = self.messages.NamespaceOption(network="NODE")
        context = self.messages.LinuxSandboxSecurityContext(namespace_options=host)
        config = self.messages.PodSandboxConfig(
            metadata=self.messages.PodSandboxMetadata(name="pod", uid="1", namespace="default"),
            linux=self.messages.LinuxPodSandboxConfig(security_context=context),
        )
        pod = self.runtime.RunPodSandbox(self.messages.RunPodSandboxRequest(config=config), timeout=PATIENCE)
        try:
            yield pod
        finally:
            self.runtime.StopPodSandbox(pod, timeout=PATIENCE)
            self.runtime.RemovePodSandbox(pod, timeout=PATIENCE)


@contextmanager
def own_containerd(sandbox_image: str = "") -> Iterator[Containerd]:
    """A containerd whose pods use `sandbox_image`; without one, it makes no pods."""
    daemon, unshare = need("containerd", "containerd"), need("unshare", "util-linux")
    need("runc", "runc")
    if os.geteuid() != 0:
        lack("containerd: needs root")
    # Paths of sockets have to be short.
    with TemporaryDirectory(prefix="containerd") as folder, Path(folder, "log").open("w") as log:
        settings = f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        if not sandbox_image:
            settings += f'disabled_plugins = ["{CRI}"]\n'
        settings += (
            f'[grpc]\n  address = "{folder}/s"\n[plugins."io.containerd.internal.v1.opt"]\n  path = "{folder}/opt"\n'
        )
        if sandbox_image:
            # Inside a container of a lower limit, scores can't be lowered.
            settings += f'[plugins."{CRI}"]\n  sandbox_image = "{sandbox_image}"\n  restrict_oom_score_adj = true\n'
        Path(folder, "config.toml").write_text(settings)
        command = [unshare, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command += [daemon, "--config", f"{folder}/config.toml"]
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            containerd = Containerd(f"{folder}/s", process)
            try:
                answers = lambda: process.poll() is not None or containerd.run("version").returncode == 0  # noqa: E731
                until("containerd answers", answers, patience=PATIENCE)
                assert process.poll() is None, Path(folder, "log").read_text()
                yield containerd
            finally:
                # When PID 1 of a namespace ends, the kernel kills all others.
                for each in Process(process.pid).children():
                    os.kill(each, signal.SIGKILL)
                process.wait()
