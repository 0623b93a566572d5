"""A power cut for one file system: the shutdown ioctl without a flush of its log (EXT4_IOC_SHUTDOWN,
XFS_IOC_GOINGDOWN). From then on all I/O fails; after a remount only what was synced is there."""

import fcntl
import os
import struct
import sys

SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125  # _IOR('X', 125, u32)
NO_LOG_FLUSH = 2

folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
