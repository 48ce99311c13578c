"""Tests the container's steps in a bare Debian: debootstrap makes a root folder, and container/system.sh and container/user.sh run
in it as Containerfile runs them. Then a notebook is executed there. Needs root, the package debootstrap and half an hour."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USER = "vitlab"
# Certificates that this machine trusts in addition to Debian's.
CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def debian(tmp_path):
    """The root folder of a Debian with its essential packages, the clone in a user's home, and /proc."""
    root = tmp_path / "debian"
    run("debootstrap", "--variant=minbase", "bookworm", str(root))
    if CERTIFICATES.is_dir():
        shutil.copytree(CERTIFICATES, root / "usr/local/share/ca-certificates", dirs_exist_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    run("mount", "--types", "proc", "proc", str(root / "proc"))
    yield root
    run("umount", str(root / "proc"))


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("debootstrap") is None, reason="needs root and debootstrap")
def test_a_bare_debian_becomes_ready(debian):
    shutil.copy(ROOT / "container/system.sh", debian / "system.sh")
    run("chroot", str(debian), "/system.sh")
    run("chroot", str(debian), "useradd", "--create-home", "--shell", "/bin/bash", USER)
    home = f"/home/{USER}"
    clone = debian / home[1:] / "vitlab"
    run("git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(clone))
    run("chroot", str(debian), "chown", "--recursive", f"{USER}:{USER}", home)
    variables = {"HOME": home, "PATH": f"{home}/.cargo/bin:/usr/bin:/bin", "VITLAB_DATA": "synthetic", "PIP_CERT": BUNDLE}
    user = ["chroot", f"--userspec={USER}:{USER}", str(debian), "env", "-i"]
    user += [f"{name}={value}" for name, value in variables.items()]
    run(*user, f"{home}/vitlab/container/user.sh")
    run(*user, "sh", "-c", f"cd {home}/vitlab && cargo lab run --quick --data synthetic 2_attention")
    assert (clone / "outputs/2_attention-quick.ipynb").is_file()
