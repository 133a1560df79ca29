"""Limits of memory that containers set: of both versions of control groups, and nested."""

from __future__ import annotations

from pathlib import Path

import pytest

from optistyle.machine import memory

GIB = 1 << 30
MOUNT = "30 23 0:26 {top} /sys/fs/cgroup{place} rw,relatime shared:9 - {kind} cgroup rw{options}"


def machine(root: Path, inside: str, mount: str, limits: dict[str, tuple[object, int]]) -> None:
    """Files of a machine: folder below /sys/fs/cgroup -> limit and use."""
    process = root / "proc" / "self"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(inside)
    (process / "mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mount}\n")
    unified = "cgroup2" in mount
    limit, used = ("memory.max", "anon") if unified else ("memory.limit_in_bytes", "total_rss")
    for name, (most, use) in limits.items():
        folder = root / "sys" / "fs" / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / "memory.stat").write_text(f"{used} {use}\nfile 7\n")


def test_version_2_nested(tmp_path: Path) -> None:
    """The smallest on the way to the top counts; a group without a limit says "max"."""
    mount = MOUNT.format(top="/", place="", kind="cgroup2", options="")
    limits: dict[str, tuple[object, int]] = {
        "user.slice": (2 * GIB, GIB),
        "user.slice/a b": ("max", GIB),
        "user.slice/a b/run": (4 * GIB, GIB),
        "other": (1, 0),
    }
    machine(tmp_path, "0::/user.slice/a b/run\n", mount, limits)
    assert list(memory._rooms(tmp_path)) == [GIB, 3 * GIB]


def test_version_2_in_a_container(tmp_path: Path) -> None:
    mount = MOUNT.format(top="/", place="", kind="cgroup2", options="")
    machine(tmp_path, "0::/\n", mount, {".": (2 * GIB, GIB)})
    assert list(memory._rooms(tmp_path)) == [GIB]


def test_version_1(tmp_path: Path) -> None:
    """Beside other controllers, on a machine with both versions."""
    inside = "4:cpu,cpuacct:/\n3:memory:/jobs/one\n1:name=systemd:/\n0::/\n"
    mount = MOUNT.format(top="/", place="/memory", kind="cgroup", options=",memory")
    mount += "\n" + MOUNT.format(top="/", place="/cpu", kind="cgroup", options=",cpu,cpuacct")
    limits: dict[str, tuple[object, int]] = {
        "memory": (9223372036854771712, 5 * GIB),
        "memory/jobs": (3 * GIB, 2 * GIB),
        "memory/jobs/one": (2 * GIB, 2 * GIB + 5),
    }
    machine(tmp_path, inside, mount, limits)
    assert list(memory._rooms(tmp_path)) == [9223372036854771712 - 5 * GIB, GIB, 0]


@pytest.mark.parametrize("inside", ["3:memory:/docker/a\n", "3:memory:/docker/a/b\n"])
def test_a_mount_that_shows_a_part(tmp_path: Path, inside: str) -> None:
    """A container without a namespace of its own: paths are the host's, the mount is its own."""
    mount = MOUNT.format(top="/docker/a", place="/memory", kind="cgroup", options=",memory")
    machine(tmp_path, inside, mount, {"memory": (2 * GIB, GIB), "memory/b": (5 * GIB, GIB)})
    assert min(memory._rooms(tmp_path)) == GIB


def test_no_groups(tmp_path: Path) -> None:
    assert list(memory._rooms(tmp_path)) == []
