"""How quiet the machine was: the share of its CPU time that neither the brokers nor the clients have used."""

import os
import resource
import time

HERTZ = os.sysconf("SC_CLK_TCK")


def machine():
    """CPU seconds since the boot: used, and taken by the host (steal)."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal = (int(ticks) / HERTZ for ticks in stat.readline().split()[1:9])
    return user + nice + system + irq + softirq, steal


def own(brokers):
    """CPU seconds of this process, of all that it has waited for, and of a broker that runs on."""
    used = brokers.running_cpu_s()
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


class Quiet:
    def __init__(self, brokers):
        self.began = time.monotonic()
        self.brokers, self.machine, self.own = brokers, machine(), own(brokers)

    def others(self):
        """Shares of all cores' time."""
        whole = (time.monotonic() - self.began) * os.cpu_count()
        used, steal = (after - before for after, before in zip(machine(), self.machine))
        mine = own(self.brokers) - self.own
        return {"processes": max(0.0, used - mine) / whole, "steal": steal / whole}
