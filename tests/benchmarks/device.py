"""A file system of its own on a loop device, so that what reaches the device is counted, the file
system's own blocks included, and nothing of anybody else. /proc/PID/io would not do: it counts whole
folios, of which a commit writes a block.

Needs root; without it there is no count (`written` is None)."""

import os
import subprocess
import sys

SECTOR_BYTES = 512


class Device:
    def __init__(self, folder, size="4G"):
        """Mounts a fresh ext4 at `folder`."""
        self.folder, self.image, self.stat = folder, folder + ".image", None
        os.makedirs(folder, exist_ok=True)
        path = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        run = lambda *command: subprocess.run(
            command, check=True, capture_output=True, text=True, env=path
        ).stdout.strip()
        try:
            run("truncate", "--size", size, self.image)
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
            loop = run("losetup", "--find", "--show", "--direct-io=on", self.image)
            self.loop = loop
            run("mount", loop, folder)
            self.stat = f"/sys/block/{os.path.basename(loop)}/stat"
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"SKIPPED: no loop device, so bytes to the device are not counted: {error}", file=sys.stderr)

    def written(self):
        """Bytes written to the device so far, or None."""
        if self.stat is None:
            return None
        with open(self.stat) as stat:
            return int(stat.read().split()[6]) * SECTOR_BYTES

    def close(self):
        if self.stat is not None:
            subprocess.run(["umount", self.folder], check=False)
            subprocess.run(["losetup", "--detach", self.loop], check=False)
        if os.path.exists(self.image):
            os.remove(self.image)
