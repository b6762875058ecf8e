"""Cgroups that look like systemd units, for the campaigns: a folder in each hierarchy, v2 and v1."""

import contextlib
import os
import pathlib
import signal
import sys
import time

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "blkio")


def cgroup_mounts():
    """{"": v2 mount, "memory": ..., "pids": ..., ...}, whichever exist."""
    mounts = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        point, kind, options = fields.split()[4], tail.split()[0], tail.split()[-1].split(",")
        if kind == "cgroup2":
            mounts.setdefault("", pathlib.Path(point))
        elif kind == "cgroup":
            for controller in CONTROLLERS:
                if controller in options:
                    mounts[controller] = pathlib.Path(point)
    if "" not in mounts:
        sys.exit("campaign: no cgroup v2 mount found in /proc/self/mountinfo")
    return mounts


def must_be_empty(mounts, slice_name):
    for mount in mounts.values():
        for procs in (mount / slice_name).glob("*/cgroup.procs"):
            if procs.read_text().strip():
                sys.exit(f"campaign: {procs.parent} has processes: another campaign runs, or one was killed")


class Cgroup:
    """One directory in each hierarchy, removed with all that runs in it."""

    def __init__(self, mounts, slice_name, name):
        self.name = name
        self.folders = {c: m / slice_name / name for c, m in mounts.items()}

    def __enter__(self):
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, controller, name, value):
        if controller in self.folders:
            (self.folders[controller] / name).write_text(str(value))

    def join(self):
        """Moves the calling process; for preexec_fn."""
        for folder in self.folders.values():
            (folder / "cgroup.procs").write_text("0")

    def oom_kills(self):
        folder = self.folders.get("memory", self.folders[""])
        for file in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                for line in (folder / file).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def __exit__(self, *_):
        for folder in self.folders.values():
            for _ in range(100):
                with contextlib.suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(FileNotFoundError):
                    try:
                        folder.rmdir()
                    except FileNotFoundError:
                        break
                    except OSError:
                        time.sleep(0.05)  # the last task is still on its way out
                        continue
                break
            else:
                print(f"campaign: {folder} could not be removed", file=sys.stderr)
